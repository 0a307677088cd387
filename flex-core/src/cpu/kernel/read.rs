//! Reading memory and doing nothing with it: how fast keys and values could be read.

use super::simd::{self, Simd};
use crate::isa::{Available, InstructionSet};

/// How cache lines are asked for before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) enum Prefetch {
    /// Not at all: the hardware finds the streams.
    Hardware,
    /// Into the second cache, [`AHEAD_BYTES`] ahead.
    SecondCache,
    /// Past the outer caches, as far ahead.
    NonTemporal,
}

/// How far ahead of the loads lines are asked for.
const AHEAD_BYTES: usize = 4096;

/// A cache line.
pub(super) const LINE: usize = 64;

/// The lines that a stream reads before the next stream has its turn.
const LINES_A_TURN: usize = 4;

/// What a loop reads: `streams` stretches side by side, each of `turns` times [`LINES_A_TURN`] lines.
struct Read {
    from: *const u8,
    streams: usize,
    turns: usize,
    prefetch: Prefetch,
}

/// The loops of one instruction set.
pub(in crate::cpu) struct Reader {
    read: unsafe fn(&Read) -> f32,
}

impl Reader {
    /// The loops with the widest loads of an instruction set.
    pub(in crate::cpu) fn new(isa: Available) -> &'static Self {
        match isa.set() {
            InstructionSet::Portable => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            _ => &x86::AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &PORTABLE,
        }
    }

    /// Reads all of `memory`, but for a part of a line at its beginning and less than a turn of every stream at its end.
    /// `streams` is 1, 2, 4 or 8.
    pub(in crate::cpu) fn read(&self, memory: &[u8], streams: usize, prefetch: Prefetch) {
        assert!(matches!(streams, 1 | 2 | 4 | 8), "there is a loop for so many streams");
        let memory = &memory[memory.as_ptr().align_offset(LINE).min(memory.len())..];
        let turns = memory.len() / (streams * LINES_A_TURN * LINE);
        let task = Read { from: memory.as_ptr(), streams, turns, prefetch };
        // SAFETY: all turns of all streams are in memory, and `new` gives only what the CPU can execute.
        std::hint::black_box(unsafe { (self.read)(&task) });
    }
}

/// # Safety
/// The CPU has the features of `S`; the memory is there, from the beginning of a line on.
#[inline(always)]
unsafe fn all_streams<S: Simd>(task: &Read) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        match task.streams {
            1 => prefetching::<S, 1>(task),
            2 => prefetching::<S, 2>(task),
            4 => prefetching::<S, 4>(task),
            _ => prefetching::<S, 8>(task),
        }
    }
}

/// # Safety
/// As [`all_streams`], of so many.
#[inline(always)]
unsafe fn prefetching<S: Simd, const STREAMS: usize>(task: &Read) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        match task.prefetch {
            Prefetch::Hardware => streams::<S, STREAMS>(task, |_| ()),
            Prefetch::SecondCache => streams::<S, STREAMS>(task, ask::second_cache),
            Prefetch::NonTemporal => streams::<S, STREAMS>(task, ask::non_temporal),
        }
    }
}

/// # Safety
/// As [`prefetching`].
#[inline(always)]
unsafe fn streams<S: Simd, const STREAMS: usize>(task: &Read, ask: impl Fn(*const u8)) -> f32 {
    let stream = task.turns * LINES_A_TURN * LINE;
    // SAFETY: the caller's; the largest address is the last line of the last stream.
    unsafe {
        let mut most = [S::splat(0.0); STREAMS];
        for turn in 0..task.turns {
            for (i, most) in most.iter_mut().enumerate() {
                let from = task.from.add(i * stream + turn * LINES_A_TURN * LINE);
                for line in 0..LINES_A_TURN {
                    ask(from.wrapping_add(line * LINE + AHEAD_BYTES));
                }
                // Not sums: those take longer where they happen to be subnormal.
                for at in (0..LINES_A_TURN * LINE).step_by(4 * S::LANES) {
                    *most = S::max(S::load(from.add(at).cast()), *most);
                }
            }
        }
        most.into_iter().map(|most| S::reduce_max(most)).fold(0.0, f32::max)
    }
}

/// Asking for a cache line. Any address will do: nothing but the caches learns of it.
#[cfg(target_arch = "x86_64")]
mod ask {
    use std::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T1, _mm_prefetch};

    #[inline(always)]
    pub(super) fn second_cache(line: *const u8) {
        // SAFETY: every x86-64 CPU has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    pub(super) fn non_temporal(line: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_NTA>(line.cast()) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod ask {
    pub(super) fn second_cache(_: *const u8) {}

    pub(super) fn non_temporal(_: *const u8) {}
}

/// Instantiates the loops of an instruction set.
macro_rules! reader {
    ($simd:ty $(, features $features:literal)?) => {{
        // SAFETY of the function: that of the generic one it is made of.
        $(#[target_feature(enable = $features)])?
        unsafe fn read(task: &Read) -> f32 {
            // SAFETY: the caller's.
            unsafe { crate::cpu::kernel::read::all_streams::<$simd>(task) }
        }
        Reader { read }
    }};
}

static PORTABLE: Reader = reader!(simd::Portable);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::simd::{Avx2, Avx512};
    use super::{Read, Reader};

    pub(super) static AVX2: Reader = reader!(Avx2, features "avx2,fma");
    pub(super) static AVX512: Reader =
        reader!(Avx512, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
}
