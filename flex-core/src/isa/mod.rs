//! Which vector instructions the CPU backend uses.
//!
//! Chosen once a process: the best set that this CPU has, or the one that the environment variable `FLEX_CPU_ISA`
//! (`amx`, `avx512bf16`, `avx512`, `avx2` or `portable`) names, as long as the CPU has it.

mod each_set;

use std::sync::OnceLock;

pub(crate) use each_set::compiled_for_each_set;

/// A set of vector instructions that the CPU backend is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the target guarantees; vectorised by the compiler. Every CPU, and all that aarch64 needs.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with AVX-512 BF16, whose dot products take bf16 inputs as they are. Twice as fast as f32 on AMD's cores,
    /// half as fast on Intel's, where it is used only if asked for.
    Avx512Bf16,
    /// AVX-512 BF16 and the tile unit (AMX): for bf16 inputs, and for f16 and f32 as sums of bf16, where that is faster.
    /// Linux only.
    Amx,
}

impl InstructionSet {
    /// All sets, the best one first.
    pub const ALL: [Self; 5] = [Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// The name that `FLEX_CPU_ISA` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
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
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => Self::Avx512Bf16.is_available() && amx::is_usable(),
            #[allow(unreachable_patterns, reason = "on x86-64 Linux every set is listed")]
            _ => false,
        }
    }

    fn is_worthwhile(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                let vendor = std::arch::x86_64::__cpuid(0);
                [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() != b"GenuineIntel"
            }
            _ => true,
        }
    }

    /// The best set of this CPU.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available() && set.is_worthwhile()).unwrap_or(Self::Portable)
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
                        "FLEX_CPU_ISA names no instruction set of this CPU; expected amx, avx512bf16, avx512, avx2 or portable"
                    );
                    Self::best()
                }
            }
        })
    }
}

/// Whether the tile unit is there and the kernel lets this process use it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    pub(super) fn is_usable() -> bool {
        static USABLE: OnceLock<bool> = OnceLock::new();
        *USABLE.get_or_init(|| {
            const TILE: u32 = 1 << 24;
            const BF16: u32 = 1 << 22;
            let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16;
            has && request_permission()
        })
    }

    /// Asks the kernel for the tile registers, once for all threads of the process.
    fn request_permission() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XTILEDATA: i64 = 18;
        let mut result = ARCH_PRCTL;
        // SAFETY: the call touches no memory of ours, and fails without effect where the kernel does not know it.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
}

/// An instruction set that this CPU has: what code compiled for it may rely on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Available(InstructionSet);

impl Available {
    /// The set if the CPU has it, else the best one that it has.
    pub(crate) fn new(set: InstructionSet) -> Self {
        Self(if set.is_available() { set } else { InstructionSet::best() })
    }

    pub(crate) fn set(self) -> InstructionSet {
        self.0
    }
}

impl std::fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
