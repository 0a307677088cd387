//! Weights of 16 bits in arithmetic of 16 bits, of scores that are known to be small.
//!
//! The bits of a bf16, read as an integer, are its logarithm, 128 · (127 + log2 w), were it not for the mantissa, which is
//! 2ᶠ − 1 where the logarithm has f. So the exponent x of a weight 2ˣ, as a fixed-point number with ten digits after the
//! point, becomes the weight by adding what is missing, the polynomial 2ᶠ − 1 − f, and rounding to seven digits: 32
//! weights a vector, where floats are 16. There are six digits before the point, enough for scores that are known to be
//! small.
//!
//! Weights are as good as if they were rounded to bf16 (their error is 1.675·10⁻³, root mean square, instead of
//! 1.659·10⁻³). The sums are those of the rounded weights, so that those of a row add up to what it is divided by. They are
//! not precise enough for a logarithm that is wanted as an f32: weights are computed as floats then.

use std::arch::x86_64::*;
use std::ops::Range;

use super::TILE_KEYS;
use super::bounded_softmax::{Exponent, LARGEST_EXPONENT, SmallExponents};
use super::generic::{InBf16, WeightFormat};
use super::simd::{Avx512, Simd};
use super::softmax::Softmax;

/// The steps of an exponent.
const ONE: f32 = 1024.0;

/// What is added to an exponent: 62.5. One more comes with [`REST`], and 64 with [`UPPER`], which makes 127, the bias of a
/// bf16; the half makes the digits after the point those of h = f − ½, with its sign, around which the polynomial is
/// developed.
const BIAS: f32 = 62.5;

/// 1.5 · 2²³: an integer below 2¹⁶ that is added is in the low half of the bits.
const INTEGER: f32 = 12_582_912.0;

/// 1024 · (2ᶠ − 1.5 − h + 0.0859), as Horner's rule has it in numbers of 16 bits: of the coefficients with which weights have
/// the least errors (above) those of the least mean.
const CUBIC: [i16; 3] = [20, 176, -20];

/// What is missing in both, 1024 · (0.5 − 0.0859), and a half of what is rounded off.
const REST: i16 = 428;

/// 64 in the exponent of a bf16. Exponents from −63 on have none of its bits.
const UPPER: i16 = 64 << 7;

/// Weights as a row of bf16 like [`InBf16`]'s, and sums of the rounded weights.
pub(super) struct FixedPoint;

impl WeightFormat<Avx512> for FixedPoint {
    const VECTORS: usize = <InBf16 as WeightFormat<Avx512>>::VECTORS;
    /// There is no room for weights above 1.
    const SMALL_EXPONENTS: SmallExponents =
        SmallExponents { maximum: LARGEST_EXPONENT, unit: ONE, offset: BIAS * ONE + INTEGER };

    #[inline(always)]
    unsafe fn exp2(x: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe { <InBf16 as WeightFormat<Avx512>>::exp2(x) }
    }

    #[inline(always)]
    unsafe fn store(task: &Softmax, row: usize, group: usize, weights: [__m512; 2]) {
        // SAFETY: the caller's.
        unsafe { <InBf16 as WeightFormat<Avx512>>::store(task, row, group, weights) }
    }

    #[inline(always)]
    unsafe fn weigh_small<E: Exponent<Avx512>, const MASKED: bool>(
        task: &Softmax,
        r: usize,
        groups: Range<usize>,
        exponent: E,
        mut sum: __m512,
    ) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let row = task.scores.add(r * TILE_KEYS);
            let low_halves = low_halves();
            for group in groups {
                let first = group * 2 * Avx512::LANES;
                let low = exponent.of(Avx512::load(row.add(first)));
                let high = exponent.of(Avx512::load(row.add(first + Avx512::LANES)));
                let (low, high) = (_mm512_castps_si512(low), _mm512_castps_si512(high));
                let kept = if MASKED { kept_of_32(&*task.kept.add(r), first as u32) } else { !0 };
                let weights = power_of_two(kept, _mm512_permutex2var_epi16(low, low_halves, high));
                _mm512_storeu_si512(row.add(group * Avx512::LANES).cast(), weights);
                let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(weights));
                let odd = Avx512::upper_half(_mm512_castsi512_ps(weights));
                sum = Avx512::add(sum, Avx512::add(even, odd));
            }
            sum
        }
    }
}

/// Where the low halves of the lanes of two vectors are.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn low_halves() -> __m512i {
    let mut places = [0u16; 32];
    for (i, place) in places.iter_mut().enumerate() {
        *place = 2 * i as u16;
    }
    // SAFETY: the caller's, and a vector is as long as the array.
    unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }
}

const _: () = assert!(2.0 * LARGEST_EXPONENT < BIAS, "no exponent is negative");

/// A bit for each of the 32 lanes `first..` that are kept.
#[inline(always)]
fn kept_of_32(kept: &Range<u32>, first: u32) -> u32 {
    let before = |end: u32| (1u64 << end.saturating_sub(first).min(32)) as u32;
    before(kept.end).wrapping_sub(1) & !before(kept.start).wrapping_sub(1)
}

/// Powers of two as bf16, of exponents plus [`BIAS`] in steps of 1/1024; 0 where a bit of `kept` is.
///
/// # Safety
/// The CPU has AVX-512 BW.
#[inline(always)]
unsafe fn power_of_two(kept: u32, exponents: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let [c1, c2, c3] = CUBIC;
        // h · 2¹⁶: the digits after the point, of which the first is the sign.
        let h = _mm512_slli_epi16::<6>(exponents);
        let p = _mm512_add_epi16(_mm512_mulhrs_epi16(h, _mm512_set1_epi16(c1)), _mm512_set1_epi16(c2));
        let p = _mm512_add_epi16(_mm512_mulhrs_epi16(h, p), _mm512_set1_epi16(c3));
        let bits = _mm512_add_epi16(exponents, _mm512_mulhi_epi16(h, p));
        let bits = _mm512_srli_epi16::<3>(_mm512_add_epi16(bits, _mm512_set1_epi16(REST)));
        _mm512_maskz_mov_epi16(kept, _mm512_or_si512(bits, _mm512_set1_epi16(UPPER)))
    }
}
