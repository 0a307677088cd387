//! Safe code compiled once for each instruction set.

/// Defines a function that is given an instruction set and runs a body compiled with it. The body is an
/// `#[inline(always)]` function of plain loops over slices, which the compiler vectorises.
macro_rules! compiled_for_each_set {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;) => {
        $(#[$meta])*
        $visibility fn $name(isa: $crate::isa::Available, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) {
                $body($($arg),*)
            }
            match isa.set() {
                $crate::isa::InstructionSet::Portable => $body($($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Available` set has been found on this CPU.
                $crate::isa::InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above; the sets beyond have all of AVX-512's instructions that are enabled.
                _ => unsafe { avx512($($arg),*) },
                #[cfg(not(target_arch = "x86_64"))]
                _ => $body($($arg),*),
            }
        }
    };
}

pub(crate) use compiled_for_each_set;
