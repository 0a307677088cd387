//! Vectors of AVX2 and AVX-512.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{EXP2, EXP2_COARSE, EXP2_FOR_BF16, EXP2_FROM_FLOOR, ROUND_TO_EXPONENT, Simd};
use crate::rows::Fused;

/// Eight floats.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2;

// SAFETY of the bodies: the caller's CPU has AVX2 and FMA, and its pointers are good for eight floats.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type V = __m256;
    type Arithmetic = Fused;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: __m256) -> __m256 {
        unsafe {
            // Where it is small, −∞ becomes what has the power 0. The second operand is taken for NaN.
            let x = if SMALL { _mm256_max_ps(_mm256_set1_ps(-127.0), x) } else { x };
            // The sum is rounded to the nearest integer, which is then in the low bits, with the bias of exponents.
            let round = _mm256_set1_ps(ROUND_TO_EXPONENT);
            let shifted = _mm256_add_ps(x, round);
            let f = _mm256_sub_ps(x, _mm256_sub_ps(shifted, round));
            let mut p = _mm256_set1_ps(EXP2[5]);
            for &c in EXP2[..5].iter().rev() {
                p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(c));
            }
            let y = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0));
            let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(shifted)));
            let y = _mm256_mul_ps(y, power);
            if SMALL {
                return y;
            }
            // False for NaN, so that a NaN is kept.
            let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_set1_ps(-126.0));
            _mm256_andnot_ps(tiny, y)
        }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: __m256) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn reduce_max_of_each(rows: &[__m256; 16]) -> [f32; 16] {
        unsafe {
            let mut each = [0.0; 16];
            for (each, rows) in each.chunks_exact_mut(8).zip(rows.as_chunks::<8>().0) {
                let [a, b, c, d, e, f, g, h] = *rows;
                let (a, b) = (max_of_halves([a, b, c, d]), max_of_halves([e, f, g, h]));
                let (low, high) =
                    (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
                _mm256_storeu_ps(each.as_mut_ptr(), _mm256_max_ps(low, high));
            }
            each
        }
    }

    #[inline(always)]
    unsafe fn reduce_max_of_four(rows: &[__m256; 4]) -> [f32; 4] {
        unsafe {
            let mut each = [0.0; 4];
            let halves = max_of_halves(*rows);
            let max = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(each.as_mut_ptr(), max);
            each
        }
    }

    #[inline(always)]
    unsafe fn keep(x: __m256, kept: &Range<u32>, first: u32) -> __m256 {
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let bound = |bound: u32| _mm256_set1_epi32((bound as i32).wrapping_sub(first as i32));
            let early = _mm256_cmpgt_epi32(bound(kept.start), lanes);
            let inside = _mm256_andnot_si256(early, _mm256_cmpgt_epi32(bound(kept.end), lanes));
            let low = _mm256_set1_ps(f32::NEG_INFINITY);
            _mm256_blendv_ps(low, x, _mm256_castsi256_ps(inside))
        }
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], columns: usize, to: *mut f32, stride: usize) {
        let (eights, rest) = rows.as_chunks();
        for (i, eight) in eights.iter().enumerate() {
            unsafe { transpose8(eight, columns, to.add(8 * i), stride) }
        }
        if let Some(four) = rest.first_chunk() {
            unsafe { transpose4(four, columns, to.add(8 * eights.len()), stride) }
        }
    }
}

/// In each half, the maxima of those halves of four vectors, by a tree that transposes on its way: half as many rows a step,
/// which hold half as much of each.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
unsafe fn max_of_halves([a, b, c, d]: [__m256; 4]) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        let ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
        _mm256_max_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high))
    }
}

/// Four columns of four rows at a time, in registers.
///
/// # Safety
/// As [`Simd::transpose`], on a CPU with AVX.
#[inline(always)]
unsafe fn transpose4(rows: &[*const f32; 4], columns: usize, to: *mut f32, stride: usize) {
    let whole = columns / 4 * 4;
    for column in (0..whole).step_by(4) {
        // SAFETY: the caller's.
        unsafe {
            let [mut a, mut b, mut c, mut d] = [_mm_setzero_ps(); 4];
            for (row, from) in [&mut a, &mut b, &mut c, &mut d].into_iter().zip(rows) {
                *row = _mm_loadu_ps(from.add(column));
            }
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (i, values) in [a, b, c, d].into_iter().enumerate() {
                _mm_storeu_ps(to.add((column + i) * stride), values);
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { transpose_one_by_one(rows, whole..columns, to, stride) }
}

/// Column by column.
///
/// # Safety
/// As [`Simd::transpose`].
#[inline(always)]
unsafe fn transpose_one_by_one(rows: &[*const f32], columns: Range<usize>, to: *mut f32, stride: usize) {
    for column in columns {
        for (i, row) in rows.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { *to.add(column * stride + i) = *row.add(column) }
        }
    }
}

/// Eight columns of eight rows at a time, in registers.
///
/// # Safety
/// As [`Simd::transpose`], on a CPU with AVX.
#[inline(always)]
unsafe fn transpose8(rows: &[*const f32; 8], columns: usize, to: *mut f32, stride: usize) {
    let whole = columns / 8 * 8;
    for column in (0..whole).step_by(8) {
        // SAFETY: the caller's.
        unsafe {
            // Row i in the lower half and row i + 4 in the upper one: four columns of eight rows stay in their halves.
            for four in [column, column + 4] {
                let mut r = [_mm256_setzero_ps(); 4];
                for (i, r) in r.iter_mut().enumerate() {
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[i].add(four)));
                    *r = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[i + 4].add(four)));
                }
                let [a, b, c, d] = r;
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let columns = [
                    _mm256_shuffle_ps::<0x44>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0xee>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                ];
                for (i, values) in columns.into_iter().enumerate() {
                    _mm256_storeu_ps(to.add((four + i) * stride), values);
                }
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { transpose_one_by_one(rows, whole..columns, to, stride) }
}

/// Sixteen columns of sixteen rows at a time, in registers.
///
/// # Safety
/// As [`Simd::transpose`], on a CPU with AVX-512 F.
#[inline(always)]
unsafe fn transpose_sixteen(rows: &[*const f32; 16], columns: usize, to: *mut f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe {
        for first in (0..columns).step_by(16) {
            let count = (columns - first).min(16);
            let present = ((1u32 << count) - 1) as u16;
            let mut vectors = [_mm512_setzero_ps(); 16];
            for (vector, row) in vectors.iter_mut().zip(rows) {
                *vector = _mm512_maskz_loadu_ps(present, row.add(first));
            }
            transpose16(&mut vectors);
            for (i, vector) in vectors[..count].iter().enumerate() {
                _mm512_storeu_ps(to.add((first + i) * stride), *vector);
            }
        }
    }
}

/// Rows become columns.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
pub(in super::super) unsafe fn transpose16(rows: &mut [__m512; 16]) {
    // SAFETY: the caller's.
    unsafe {
        // Four rows each: in quarter i of vector c, column 4i + c.
        let mut fours = [[_mm512_setzero_ps(); 4]; 4];
        for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
            let [a, b, c, d] = *rows;
            let ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            let cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
            four[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            four[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            let ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
            let cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
            four[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            four[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        }
        for column in 0..4 {
            let [a, b, c, d] = [fours[0][column], fours[1][column], fours[2][column], fours[3][column]];
            let (ab, cd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
            rows[column] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
            rows[column + 8] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
            let (ab, cd) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
            rows[column + 4] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
            rows[column + 12] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
        }
    }
}

/// Sixteen floats; units are pairs of bf16.
#[derive(Clone, Copy)]
pub(in super::super) struct Bf16Dot;

// SAFETY of the bodies: the caller's CPU has AVX-512 BF16, and its pointers are good for sixteen floats.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Bf16Dot {
    type V = __m512;
    type Arithmetic = Fused;
    const LANES: usize = 16;
    const DEPTH: usize = 2;
    const HAS_MASKS: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { Avx512::splat(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { Avx512::load(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512) {
        unsafe { Avx512::store(to, x) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { Avx512::add(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { Avx512::mul(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { Avx512::fma(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add_products(a: __m512, b: __m512, sums: __m512) -> __m512 {
        unsafe {
            let pairs = |x: __m512| std::mem::transmute::<__m512, __m512bh>(x);
            _mm512_dpbf16_ps(sums, pairs(a), pairs(b))
        }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { Avx512::max(a, b) }
    }

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: __m512) -> __m512 {
        unsafe { Avx512::exp2::<SMALL>(x) }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: __m512) -> f32 {
        unsafe { Avx512::reduce_max(x) }
    }

    #[inline(always)]
    unsafe fn keep(x: __m512, kept: &Range<u32>, first: u32) -> __m512 {
        unsafe { Avx512::keep(x, kept, first) }
    }
}

/// In each quarter, the maxima of the halves of `a` and of `b`, in turns.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn max_of_pairs(a: __m512, b: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)) }
}

/// The maxima of the quarters of `a`, two by two, and then those of `b`.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn max_of_quarters(a: __m512, b: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_max_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b)) }
}

/// x − ⌊x⌋; 0 for −∞.
///
/// # Safety
/// The CPU has AVX-512 DQ.
#[inline(always)]
unsafe fn above_floor(x: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x) }
}

/// A polynomial of the given coefficients, lowest power first.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn horner<const N: usize>(coefficients: &[f32; N], x: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let mut p = _mm512_set1_ps(coefficients[N - 1]);
        for &c in coefficients[..N - 1].iter().rev() {
            p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(c));
        }
        p
    }
}

/// `y · 2^⌊x⌋`, or 0 where x is less than −126; if it is `SMALL`, only where it is −∞.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn times_floor_of_power<const SMALL: bool>(y: __m512, x: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        if SMALL {
            return _mm512_scalef_ps(y, x);
        }
        // Not less than: true for NaN, so that a NaN is kept.
        let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(-126.0));
        // The power of two takes the floor itself.
        _mm512_maskz_scalef_ps(normal, y, x)
    }
}

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512;

// SAFETY of the bodies: the caller's CPU has AVX-512 F and DQ, and its pointers are good for sixteen floats.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type V = __m512;
    type Arithmetic = Fused;
    const LANES: usize = 16;
    const HAS_MASKS: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: __m512) -> __m512 {
        unsafe {
            let f = above_floor(x);
            let p = _mm512_fmadd_ps(horner(&EXP2_FROM_FLOOR, f), f, _mm512_set1_ps(1.0));
            times_floor_of_power::<SMALL>(p, x)
        }
    }

    #[inline(always)]
    unsafe fn exp2_for_bf16<const SMALL: bool>(x: __m512) -> __m512 {
        unsafe { times_floor_of_power::<SMALL>(horner(&EXP2_FOR_BF16, above_floor(x)), x) }
    }

    #[inline(always)]
    unsafe fn exp2_coarse<const SMALL: bool>(x: __m512) -> __m512 {
        unsafe { times_floor_of_power::<SMALL>(horner(&EXP2_COARSE, above_floor(x)), x) }
    }

    /// A tree of maxima that transposes on its way: half as many rows a step, which hold half as much of each.
    #[inline(always)]
    unsafe fn reduce_max_of_each(rows: &[__m512; 16]) -> [f32; 16] {
        unsafe {
            let mut fours = [_mm512_setzero_ps(); 4];
            for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
                let (ab, cd) = (max_of_pairs(rows[0], rows[1]), max_of_pairs(rows[2], rows[3]));
                let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
                let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
                *four = _mm512_max_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
            }
            let [a, b, c, d] = fours;
            let mut each = [0.0; 16];
            let all = max_of_quarters(max_of_quarters(a, b), max_of_quarters(c, d));
            _mm512_storeu_ps(each.as_mut_ptr(), all);
            each
        }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: __m512) -> f32 {
        unsafe {
            let x = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            Avx2::reduce_max(x)
        }
    }

    #[inline(always)]
    unsafe fn keep(x: __m512, kept: &Range<u32>, first: u32) -> __m512 {
        unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let bound = |bound: u32| _mm512_set1_epi32((bound as i32).wrapping_sub(first as i32));
            let late = _mm512_cmpge_epi32_mask(lanes, bound(kept.start));
            let inside = _mm512_mask_cmplt_epi32_mask(late, lanes, bound(kept.end));
            _mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), inside, x)
        }
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], columns: usize, to: *mut f32, stride: usize) {
        unsafe {
            match rows.as_chunks() {
                ([sixteen], []) => transpose_sixteen(sixteen, columns, to, stride),
                _ => Avx2::transpose(rows, columns, to, stride),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, low: __m512, high: __m512) {
        // Called for sets with AVX-512 BF16 only.
        unsafe {
            let packed = _mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(packed));
        }
    }
}

// SAFETY of the bodies: as above.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Avx512 {
    /// `a − b`.
    ///
    /// # Safety
    /// As that of [`Simd`].
    #[inline(always)]
    pub(in super::super) unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    /// A bit for each lane, 1 where it is not `y` (or NaN).
    ///
    /// # Safety
    /// As that of [`Simd`].
    #[inline(always)]
    pub(in super::super) unsafe fn differ_from(x: __m512, y: f32) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_set1_ps(y)) }
    }

    /// The bf16 next to each float, towards zero.
    ///
    /// # Safety
    /// As that of [`Simd`].
    #[inline(always)]
    pub(in super::super) unsafe fn upper_half(x: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(!0xffff))) }
    }

    /// Pairs of the upper halves, those of `low` first.
    ///
    /// # Safety
    /// As that of [`Simd`].
    #[inline(always)]
    pub(in super::super) unsafe fn join_upper_halves(low: __m512, high: __m512) -> __m512 {
        unsafe {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
            _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_castps_si512(high)))
        }
    }
}
