//! Which vector instructions the CPU backend uses.
//!
//! Chosen once a process: the best set that this CPU has, or the one that the environment variable `FLEX_CPU_ISA`
//! (`avx512`, `avx2` or `portable`) names, as long as the CPU has it.

use std::sync::OnceLock;

/// A set of vector instructions that the CPU backend is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the target guarantees; vectorised by the compiler. Every CPU, and all that aarch64 needs.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl InstructionSet {
    /// All sets, the best one first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The name that `FLEX_CPU_ISA` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The best set of this CPU.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// The set in use: `FLEX_CPU_ISA` where it names a set that this CPU has, else [`best`](Self::best). The variable
    /// is read at the first call only.
    pub fn current() -> Self {
        static CURRENT: OnceLock<InstructionSet> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let Ok(wanted) = std::env::var("FLEX_CPU_ISA") else { return Self::best() };
            let known = Self::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(wanted.trim()));
            match known.filter(|set| set.is_available()) {
                Some(set) => set,
                None => {
                    let used = Self::best().name();
                    tracing::warn!(
                        wanted,
                        used,
                        "FLEX_CPU_ISA names no instruction set of this CPU; expected avx512, avx2 or portable"
                    );
                    Self::best()
                }
            }
        })
    }

    /// This set if the CPU has it, else the best one that it has: what may be executed.
    pub(crate) fn or_available(self) -> Self {
        if self.is_available() { self } else { Self::best() }
    }
}

impl std::fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
