//! How to run.

use crate::isa::InstructionSet;

/// How the CPU backend runs. The results do not depend on the number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuOptions {
    /// The number of threads, from a pool kept for that number; `None` for the rayon pool that the caller is in (the
    /// global one outside of any).
    pub threads: Option<usize>,
    /// The instruction set; `None` for [`InstructionSet::current`], which the environment variable `FLEX_CPU_ISA` may
    /// set. A set that this CPU does not have is replaced by the best one it has.
    pub instruction_set: Option<InstructionSet>,
}
