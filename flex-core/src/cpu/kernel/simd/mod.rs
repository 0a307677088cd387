//! Vectors of f32 as the kernels use them, one implementation an instruction set.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use crate::rows::{Fma, Separate};

/// Vector instructions. The functions are inlined into code that is compiled with the features of the set.
///
/// # Safety
/// All functions need a CPU with the features of the implementing set, and pointers to [`LANES`](Self::LANES) floats.
pub(super) trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// How loops over floats multiply and add, in code that is compiled with the features of the set.
    type Arithmetic: Fma;
    /// The floats of a vector.
    const LANES: usize;
    /// The elements of a 32-bit unit that [`add_products`](Self::add_products) multiplies: 2 for bf16.
    const DEPTH: usize = 1;
    /// Whether [keeping](Self::keep) some lanes takes hardly any time, so that there is no need to know which vectors are
    /// kept whole.
    const HAS_MASKS: bool = false;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, x: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// The products of units of [`DEPTH`](Self::DEPTH) elements, added to `sums`.
    #[inline(always)]
    unsafe fn add_products(a: Self::V, b: Self::V, sums: Self::V) -> Self::V {
        // SAFETY: the caller's.
        unsafe { Self::fma(a, b, sums) }
    }

    /// The larger one; `b` where one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// 2ˣ within 2 ulp; 0 below −126, NaN for NaN. Only defined for x ≤ 127.5 and NaN, which softmax never exceeds; if it is
    /// `SMALL`, only for −∞ and from −126 on.
    unsafe fn exp2<const SMALL: bool>(x: Self::V) -> Self::V;
    /// 2ˣ within 2⁻²² of itself, for weights that become bf16; the rest as [`exp2`](Self::exp2).
    #[inline(always)]
    unsafe fn exp2_for_bf16<const SMALL: bool>(x: Self::V) -> Self::V {
        // SAFETY: the caller's.
        unsafe { Self::exp2::<SMALL>(x) }
    }
    /// 2ˣ within 10⁻⁵ of itself, and 1 for 0; the rest as [`exp2`](Self::exp2).
    #[inline(always)]
    unsafe fn exp2_coarse<const SMALL: bool>(x: Self::V) -> Self::V {
        // SAFETY: the caller's.
        unsafe { Self::exp2::<SMALL>(x) }
    }
    unsafe fn reduce_max(x: Self::V) -> f32;
    /// The largest float of each of sixteen vectors.
    #[inline(always)]
    unsafe fn reduce_max_of_each(rows: &[Self::V; 16]) -> [f32; 16] {
        let mut each = [0.0; 16];
        for (max, rows) in each.as_chunks_mut().0.iter_mut().zip(rows.as_chunks().0) {
            // SAFETY: the caller's.
            *max = unsafe { Self::reduce_max_of_four(rows) };
        }
        each
    }
    /// The same of four.
    #[inline(always)]
    unsafe fn reduce_max_of_four(rows: &[Self::V; 4]) -> [f32; 4] {
        let mut each = [0.0; 4];
        // A closure would be compiled without the features.
        for (max, row) in each.iter_mut().zip(rows) {
            // SAFETY: the caller's.
            *max = unsafe { Self::reduce_max(*row) };
        }
        each
    }
    /// `x` in the lanes `first..` that are in `kept`, −∞ in others.
    unsafe fn keep(x: Self::V, kept: &Range<u32>, first: u32) -> Self::V;

    /// Rounds two vectors to bf16 and writes them one after the other, into the memory of one vector.
    #[inline(always)]
    unsafe fn store_bf16(to: *mut f32, low: Self::V, high: Self::V) {
        let mut floats = [0.0f32; 32];
        // SAFETY: two vectors fit, and the caller's pointer is good for one.
        unsafe {
            Self::store(floats.as_mut_ptr(), low);
            Self::store(floats.as_mut_ptr().add(Self::LANES), high);
            for (i, x) in floats[..2 * Self::LANES].iter().enumerate() {
                to.cast::<half::bf16>().add(i).write_unaligned(half::bf16::from_f32(*x));
            }
        }
    }

    /// `to[column · stride + i] = rows[i][column]` for some columns of four, eight or sixteen rows.
    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], columns: usize, to: *mut f32, stride: usize) {
        for column in 0..columns {
            for (i, row) in rows.iter().enumerate() {
                // SAFETY: the caller's rows have so many columns, and there is room for them.
                unsafe { *to.add(column * stride + i) = *row.add(column) }
            }
        }
    }
}

/// The coefficients of (2ᶠ − 1)/f on [−½, ½], lowest power first.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_5, 0.055_503_57, 0.009_618_083, 0.001_339_086_3, 0.000_154_531_64];

/// The coefficients of (2ᶠ − 1)/f on [0, 1], lowest power first.
#[cfg(target_arch = "x86_64")]
const EXP2_FROM_FLOOR: [f32; 6] =
    [0.693_147_06, 0.240_229_3, 0.055_485_282, 0.009_675_452, 0.001_246_784_7, 0.000_216_129_15];

/// The coefficients of 2ᶠ on [0, 1], within 2⁻²² of it, lowest power first.
#[cfg(target_arch = "x86_64")]
const EXP2_FOR_BF16: [f32; 6] =
    [0.999_999_94, 0.693_153_1, 0.240_153_61, 0.055_826_318, 0.008_989_341, 0.001_877_576_7];

/// The coefficients of 2ᶠ on [0, 1], within 3·10⁻⁶ of it, lowest power first.
#[cfg(target_arch = "x86_64")]
const EXP2_COARSE: [f32; 5] = [1.0, 0.693_044_84, 0.241_280_21, 0.052_242_465, 0.013_426_69];

/// 1.5 · 2²³, whose last digit is 1, and whose low bits are 0, and the bias of exponents.
const ROUND_TO_EXPONENT: f32 = 12_582_912.0 + 127.0;

/// Arrays that the compiler turns into whatever vectors the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type V = [f32; 8];
    type Arithmetic = Separate;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller's pointer is good for eight floats.
        unsafe { from.cast::<[f32; 8]>().read() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::V) {
        // SAFETY: the caller's pointer is good for eight floats.
        unsafe { to.cast::<[f32; 8]>().write(x) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without a fused instruction `mul_add` is a call to libm.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: Self::V) -> Self::V {
        // The sum is rounded to the nearest integer, which is then in the low bits.
        std::array::from_fn(|i| {
            let x = x[i];
            let bounded = if x < -126.0 { -126.0 } else { x };
            let shifted = bounded + ROUND_TO_EXPONENT;
            let f = bounded - (shifted - ROUND_TO_EXPONENT);
            let mut p = EXP2[5];
            for c in EXP2[..5].iter().rev() {
                p = p * f + c;
            }
            let y = (p * f + 1.0) * f32::from_bits(shifted.to_bits() << 23);
            if x < -126.0 { 0.0 } else { y }
        })
    }

    #[inline(always)]
    unsafe fn reduce_max(x: Self::V) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn keep(x: Self::V, kept: &Range<u32>, first: u32) -> Self::V {
        std::array::from_fn(|i| if kept.contains(&(first + i as u32)) { x[i] } else { f32::NEG_INFINITY })
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use x86::transpose16;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Bf16Dot};
