//! Elements of any dtype read as vectors of f32, and the sums of vectors' lanes.

use half::{bf16, f16};

use super::super::simd::{Portable, Simd};
use super::ahead::RowsToAsk;

/// Reading two vectors of elements of type `T` at a time.
///
/// # Safety
/// As [`Simd`]: the CPU has the features, and pointers are good for what is read.
pub(super) trait Widen<T: Copy + Default>: Simd {
    /// Whether the first vector holds the elements with even numbers and the second those with odd ones, instead of the
    /// first and the second half. 16-bit floats that are the upper half of an f32 are cheapest to take apart so.
    const EVEN_ODD: bool = false;
    /// When to ask for lines ahead.
    const ROWS_TO_ASK: RowsToAsk = RowsToAsk::NEVER;

    /// The next `2 · LANES` elements.
    unsafe fn widen(from: *const T) -> [Self::V; 2];

    /// As [`widen`](Self::widen), where there is an element before the first one, which may be read.
    #[inline(always)]
    unsafe fn widen_after_another(from: *const T) -> [Self::V; 2] {
        // SAFETY: the caller's.
        unsafe { Self::widen(from) }
    }

    /// The next `count` elements, fewer than `2 · LANES`; the rest is 0 and not read.
    #[inline(always)]
    unsafe fn widen_first(from: *const T, count: usize) -> [Self::V; 2] {
        let mut elements = [T::default(); 32];
        for (i, element) in elements[..2 * Self::LANES].iter_mut().enumerate().take(count) {
            // SAFETY: the caller's pointer is good for `count` elements.
            *element = unsafe { *from.add(i) };
        }
        // SAFETY: there are 32 elements.
        unsafe { Self::widen(elements.as_ptr()) }
    }
}

/// Sums along vectors, by a tree that transposes on its way: each step adds the halves of what is left of two vectors, one
/// of them where it is. (With both of them moved there would be twice as many shuffles, which few units can do.)
///
/// # Safety
/// The CPU has the features.
pub(super) trait LaneSums: Simd {
    /// Lane i of the result is the sum of the lanes of vector i; there may be more vectors than lanes.
    unsafe fn lane_sums(x: &[Self::V; 16]) -> Self::V;
}

impl LaneSums for Portable {
    #[inline(always)]
    unsafe fn lane_sums(x: &[[f32; 8]; 16]) -> [f32; 8] {
        std::array::from_fn(|i| {
            let [a, b, c, d, e, f, g, h] = x[i];
            ((a + e) + (c + g)) + ((b + f) + (d + h))
        })
    }
}

impl Widen<f32> for Portable {
    #[inline(always)]
    unsafe fn widen(from: *const f32) -> [[f32; 8]; 2] {
        // SAFETY: the caller's pointer is good for sixteen elements.
        unsafe { from.cast::<[[f32; 8]; 2]>().read_unaligned() }
    }
}

impl Widen<f16> for Portable {
    #[inline(always)]
    unsafe fn widen(from: *const f16) -> [[f32; 8]; 2] {
        // SAFETY: the caller's pointer is good for sixteen elements.
        let bits = unsafe { from.cast::<[[u16; 8]; 2]>().read_unaligned() };
        // Branch-free, so that the compiler vectorises it: exponents are moved by a product, which is exact.
        bits.map(|half| {
            half.map(|bits| {
                let bits = u32::from(bits);
                let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
                let finite = (f32::from_bits(rest) * f32::from_bits(0x7780_0000)).to_bits();
                let special = rest | 0x7f80_0000;
                f32::from_bits(sign | if bits & 0x7c00 == 0x7c00 { special } else { finite })
            })
        })
    }
}

impl Widen<bf16> for Portable {
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> [[f32; 8]; 2] {
        // SAFETY: the caller's pointer is good for sixteen elements.
        let bits = unsafe { from.cast::<[[u16; 8]; 2]>().read_unaligned() };
        bits.map(|half| half.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::super::super::simd::{Avx2, Avx512};
    use super::{LaneSums, RowsToAsk, Widen};

    // SAFETY of the bodies: the caller's CPU has AVX2, FMA and F16C, and its pointers are good for sixteen elements.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl LaneSums for Avx2 {
        #[inline(always)]
        unsafe fn lane_sums(x: &[__m256; 16]) -> __m256 {
            unsafe {
                let mut four = [_mm256_setzero_ps(); 4];
                for (i, sums) in four.iter_mut().enumerate() {
                    let (a, b) = (x[i], x[i + 4]);
                    let moved = _mm256_permute2f128_ps::<0x21>(a, b);
                    *sums = _mm256_add_ps(_mm256_blend_ps::<0xf0>(a, b), moved);
                }
                let mut two = [_mm256_setzero_ps(); 2];
                for (i, sums) in two.iter_mut().enumerate() {
                    let (a, b) = (four[i], four[i + 2]);
                    let moved = _mm256_shuffle_pd::<0x5>(_mm256_castps_pd(a), _mm256_castps_pd(b));
                    *sums = _mm256_add_ps(_mm256_blend_ps::<0xcc>(a, b), _mm256_castpd_ps(moved));
                }
                let [a, b] = two;
                let moved =
                    _mm256_blend_ps::<0xaa>(_mm256_permute_ps::<0xb1>(a), _mm256_permute_ps::<0xb1>(b));
                _mm256_add_ps(_mm256_blend_ps::<0xaa>(a, b), moved)
            }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<f32> for Avx2 {
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: usize::MAX, apart: 1 };

        #[inline(always)]
        unsafe fn widen(from: *const f32) -> [__m256; 2] {
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<f16> for Avx2 {
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: 3, apart: 1 };

        #[inline(always)]
        unsafe fn widen(from: *const f16) -> [__m256; 2] {
            unsafe { [0, 8].map(|i| _mm256_cvtph_ps(_mm_loadu_si128(from.add(i).cast()))) }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<bf16> for Avx2 {
        const EVEN_ODD: bool = true;
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: 3, apart: 1 };

        #[inline(always)]
        unsafe fn widen(from: *const bf16) -> [__m256; 2] {
            unsafe {
                let pairs = _mm256_loadu_si256(from.cast());
                let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32 as i32));
                [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(odd)]
            }
        }

        /// A shift takes the place of a product on many CPUs; a second load does not.
        #[inline(always)]
        unsafe fn widen_after_another(from: *const bf16) -> [__m256; 2] {
            unsafe {
                let upper_halves = _mm256_set1_epi32(0xffff_0000u32 as i32);
                let even = _mm256_and_si256(_mm256_loadu_si256(from.sub(1).cast()), upper_halves);
                let odd = _mm256_and_si256(_mm256_loadu_si256(from.cast()), upper_halves);
                [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)]
            }
        }
    }

    // SAFETY of the bodies: the caller's CPU has AVX-512 F, BW and DQ, and its pointers are good for 32 elements, or for
    // those that the masks of `widen_first` name.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl LaneSums for Avx512 {
        #[inline(always)]
        unsafe fn lane_sums(x: &[__m512; 16]) -> __m512 {
            unsafe {
                let mut eight = [_mm512_setzero_ps(); 8];
                for (i, sums) in eight.iter_mut().enumerate() {
                    let (a, b) = (x[i], x[i + 8]);
                    let moved = _mm512_shuffle_f32x4::<0x4e>(a, b);
                    *sums = _mm512_add_ps(_mm512_mask_mov_ps(a, 0xff00, b), moved);
                }
                let mut four = [_mm512_setzero_ps(); 4];
                let quarters = _mm512_setr_epi64(2, 3, 8, 9, 6, 7, 12, 13);
                for (i, sums) in four.iter_mut().enumerate() {
                    let (a, b) = (eight[i], eight[i + 4]);
                    let moved = _mm512_permutex2var_pd(_mm512_castps_pd(a), quarters, _mm512_castps_pd(b));
                    *sums = _mm512_add_ps(_mm512_mask_mov_ps(a, 0xf0f0, b), _mm512_castpd_ps(moved));
                }
                let mut two = [_mm512_setzero_ps(); 2];
                for (i, sums) in two.iter_mut().enumerate() {
                    let (a, b) = (four[i], four[i + 2]);
                    let moved = _mm512_shuffle_pd::<0x55>(_mm512_castps_pd(a), _mm512_castps_pd(b));
                    *sums = _mm512_add_ps(_mm512_mask_mov_ps(a, 0xcccc, b), _mm512_castpd_ps(moved));
                }
                let [a, b] = two;
                let moved = _mm512_mask_permute_ps::<0xb1>(_mm512_permute_ps::<0xb1>(a), 0xaaaa, b);
                _mm512_add_ps(_mm512_mask_mov_ps(a, 0xaaaa, b), moved)
            }
        }
    }

    /// Ones for the first `count` of two vectors' lanes.
    #[inline(always)]
    fn first_lanes(count: usize) -> [__mmask16; 2] {
        let mask = (1u32 << count) - 1;
        [mask as __mmask16, (mask >> 16) as __mmask16]
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<f32> for Avx512 {
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: usize::MAX, apart: 3 };

        #[inline(always)]
        unsafe fn widen(from: *const f32) -> [__m512; 2] {
            unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))] }
        }

        #[inline(always)]
        unsafe fn widen_first(from: *const f32, count: usize) -> [__m512; 2] {
            let [low, high] = first_lanes(count);
            unsafe { [_mm512_maskz_loadu_ps(low, from), _mm512_maskz_loadu_ps(high, from.wrapping_add(16))] }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<f16> for Avx512 {
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: usize::MAX, apart: 1 };

        #[inline(always)]
        unsafe fn widen(from: *const f16) -> [__m512; 2] {
            unsafe { [0, 16].map(|i| _mm512_cvtph_ps(_mm256_loadu_si256(from.add(i).cast()))) }
        }

        #[inline(always)]
        unsafe fn widen_first(from: *const f16, count: usize) -> [__m512; 2] {
            let [low, high] = first_lanes(count);
            unsafe {
                let low = _mm256_maskz_loadu_epi16(low, from.cast());
                let high = _mm256_maskz_loadu_epi16(high, from.wrapping_add(16).cast());
                [_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)]
            }
        }
    }

    #[inline(always)]
    unsafe fn even_odd(pairs: __m512i) -> [__m512; 2] {
        // SAFETY: the CPU has AVX-512 F.
        unsafe {
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd)]
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Widen<bf16> for Avx512 {
        const EVEN_ODD: bool = true;
        const ROWS_TO_ASK: RowsToAsk = RowsToAsk { side_by_side: usize::MAX, apart: 1 };

        #[inline(always)]
        unsafe fn widen(from: *const bf16) -> [__m512; 2] {
            unsafe { even_odd(_mm512_loadu_si512(from.cast())) }
        }

        #[inline(always)]
        unsafe fn widen_first(from: *const bf16, count: usize) -> [__m512; 2] {
            unsafe { even_odd(_mm512_maskz_loadu_epi16((1u32 << count) - 1, from.cast())) }
        }
    }
}
