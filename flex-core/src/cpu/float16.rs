//! 16-bit floats to and from f32, without branches or calls, so that the compiler turns rows into vectors.

/// The value of an f16; a NaN keeps its bits.
#[inline(always)]
pub(super) fn of_f16(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // The exponent of an f32 is larger by 112; multiplying is right for subnormal numbers too.
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = magnitude << 13 | 0x7f80_0000;
    f32::from_bits(sign | if magnitude < 0x7c00 { finite } else { special })
}

/// The bits of the nearest f16, of two equally near ones the even one.
#[inline(always)]
pub(super) fn nearest_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // What carries over goes into the exponent, and from the largest number to infinity.
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    // The last bit of ½ + x is that of a subnormal f16.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let quiet_nan = magnitude >> 13 & 0x3ff | 0x7e00;
    let finite = if magnitude < (127 - 14) << 23 { subnormal } else { normal };
    // 2¹⁶ and all beyond it.
    let large = if magnitude > 0x7f80_0000 { quiet_nan } else { 0x7c00 };
    let rounded = if magnitude < (127 + 16) << 23 { finite } else { large };
    (bits >> 16 & 0x8000 | rounded) as u16
}

/// The value of a bf16.
#[inline(always)]
pub(super) fn of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bits of the nearest bf16, of two equally near ones the even one.
#[inline(always)]
pub(super) fn nearest_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn values_are_those_of_the_types() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            let same = |got: f32, expected: f32| {
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan()
            };
            assert!(same(of_f16(bits), half.to_f32()), "{half:e} ({bits:#x})");
            assert!(same(of_bf16(bits), brain.to_f32()), "{brain:e} ({bits:#x})");
        }
    }

    #[test]
    fn rounding_is_that_of_the_types() {
        for bits in (0..=u32::MAX).step_by(4099) {
            for bits in
                [bits, bits | 0x7fff, bits & 0xffff_0000 | 0x8000, bits | 0x0fff, bits & 0xffff_e000 | 0x1000]
            {
                let x = f32::from_bits(bits);
                let (half, brain) = (f16::from_f32(x), bf16::from_f32(x));
                assert_eq!(nearest_bf16(x), brain.to_bits(), "{x:e} ({bits:#x})");
                assert_eq!(nearest_f16(x), half.to_bits(), "{x:e} ({bits:#x})");
            }
        }
    }
}
