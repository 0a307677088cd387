//! f32 functions without branches or calls, so that a loop over lanes becomes vector code. Within 2 ulp of the exact
//! value over the whole range (see the tests), with the special values of Rust's functions.

/// How lanes multiply and add. Without a fused instruction a call to libm would be made for every lane.
pub(crate) trait Fma {
    /// `a * b + c`, fused where the instruction set has it.
    fn fma(a: f32, b: f32, c: f32) -> f32;
    /// Whether [`fma`](Self::fma) rounds once.
    const FUSED: bool;
}

/// The target's plain multiply and add.
pub(crate) struct Separate;

impl Fma for Separate {
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if Self::FUSED { a.mul_add(b, c) } else { a * b + c }
    }
}

/// For code compiled with an FMA feature.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Fused;

impl Fma for Fused {
    const FUSED: bool = true;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// 1.5 · 2²³: adding it rounds |x| < 2²² to the nearest integer, whose two's complement is then in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn horner<A: Fma>(x: f32, coefficients: &[f32]) -> f32 {
    let mut sum = coefficients[coefficients.len() - 1];
    for &c in coefficients[..coefficients.len() - 1].iter().rev() {
        sum = A::fma(sum, x, c);
    }
    sum
}

/// The nearest integer as a float and as an integer; |x| < 2²².
#[inline(always)]
fn nearest(x: f32) -> (f32, i32) {
    let shifted = x + ROUND;
    (shifted - ROUND, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// `x · 2ⁿ` for n in −252..=254, right for subnormal results.
#[inline(always)]
fn scale(x: f32, n: i32) -> f32 {
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    x * power(half) * power(n - half)
}

/// eʳ − 1 for |r| ≤ ½ ln 2.
#[inline(always)]
fn exp_tail<A: Fma>(r: f32) -> f32 {
    let p = horner::<A>(r, &[0.5, 0.166_665_78, 0.041_666_556, 0.008_363_174, 0.001_392_617_7]);
    A::fma(r * r, p, r)
}

#[inline(always)]
pub(super) fn exp<A: Fma>(x: f32) -> f32 {
    let clamped = x.clamp(-110.0, 90.0);
    let (n, i) = nearest(clamped * std::f32::consts::LOG2_E);
    let r = A::fma(n, -0.693_359_4, clamped);
    let r = A::fma(n, 2.121_944_4e-4, r);
    let y = scale(1.0 + exp_tail::<A>(r), i);
    if x.is_nan() { x } else { y }
}

#[inline(always)]
pub(super) fn exp2<A: Fma>(x: f32) -> f32 {
    let clamped = x.clamp(-160.0, 130.0);
    let (n, i) = nearest(clamped);
    let f = clamped - n;
    let p = horner::<A>(
        f,
        &[
            std::f32::consts::LN_2,
            0.240_226_5,
            0.055_503_57,
            0.009_618_083,
            0.001_339_086_3,
            0.000_154_531_64,
        ],
    );
    let y = scale(A::fma(f, p, 1.0), i);
    if x.is_nan() { x } else { y }
}

/// x = m · 2ᵉ with m in [√½, √2), for positive finite x: (e, m − 1).
#[inline(always)]
fn split(x: f32) -> (f32, f32) {
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = (if subnormal { x * 8_388_608.0 } else { x }).to_bits();
    // 0x3f3504f3 is √½: the exponent of what is at least √½ · 2ᵏ becomes k.
    let e = (bits.wrapping_sub(0x3f35_04f3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32));
    (e as f32 - if subnormal { 23.0 } else { 0.0 }, m - 1.0)
}

const LN: [f32; 9] = [
    0.333_333_3,
    -0.249_999_97,
    0.200_007_16,
    -0.166_678_03,
    0.142_490_54,
    -0.124_256_76,
    0.116_854_43,
    -0.114_798_37,
    0.069_716_81,
];

/// The values of logarithms where the polynomial has none.
#[inline(always)]
fn special_log(x: f32, y: f32) -> f32 {
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x == f32::INFINITY || x.is_nan() { x } else { y }
}

#[inline(always)]
pub(super) fn ln<A: Fma>(x: f32) -> f32 {
    let (e, f) = split(x);
    let square = f * f;
    let tail = A::fma(-0.5, square, f * square * horner::<A>(f, &LN));
    let y = A::fma(e, 0.693_359_4, f + A::fma(e, -2.121_944_4e-4, tail));
    special_log(x, y)
}

#[inline(always)]
pub(super) fn log2<A: Fma>(x: f32) -> f32 {
    let (e, f) = split(x);
    let square = f * f;
    // log2(1 + f) = (f + tail) · log2 e, with log2 e in two parts and the sum f + tail kept in two parts.
    let tail = A::fma(-0.5, square, f * square * horner::<A>(f, &LN));
    let high = f32::from_bits((f + tail).to_bits() & 0xffff_f000);
    let low = (f - high) + tail;
    const LOG2E_HIGH: f32 = 1.442_382_8;
    const LOG2E_LOW: f32 = 3.122_585_2e-4;
    let small = A::fma(low, LOG2E_HIGH, A::fma(high, LOG2E_LOW, low * LOG2E_LOW));
    let y = e + high * LOG2E_HIGH;
    let lost = (e - y) + high * LOG2E_HIGH;
    special_log(x, y + (lost + small))
}

/// Below this |x|, tanh is a polynomial.
pub(super) const TANH_SMALL: f32 = 0.625;

/// tanh for |x| < [`TANH_SMALL`].
#[inline(always)]
pub(super) fn tanh_small<A: Fma>(x: f32) -> f32 {
    let square = x * x;
    let p = horner::<A>(square, &[-0.333_333_28, 0.133_327_7, -0.053_850_908, 0.020_997_18, -0.006_096_714]);
    A::fma(x * square, p, x)
}

#[inline(always)]
pub(super) fn tanh<A: Fma>(x: f32) -> f32 {
    let a = x.abs();
    // Beyond 10 the result rounds to 1. A NaN stays one all the way.
    let twice = 2.0 * if a > 10.0 { 10.0 } else { a };
    let (n, i) = nearest(twice * std::f32::consts::LOG2_E);
    let r = A::fma(n, 2.121_944_4e-4, A::fma(n, -0.693_359_4, twice));
    let exp = (1.0 + exp_tail::<A>(r)) * f32::from_bits((i.wrapping_add(127) << 23) as u32);
    let large = 1.0 - 2.0 * reciprocal::<A>(exp + 1.0);
    if a < TANH_SMALL { tanh_small::<A>(x) } else { large.copysign(x) }
}

/// 1/x for x from 1 to 2¹⁰⁰ or NaN, within 1 ulp: many times faster than a division where there is a fused instruction.
#[inline(always)]
fn reciprocal<A: Fma>(x: f32) -> f32 {
    if !A::FUSED {
        return 1.0 / x;
    }
    // Negating the exponent and the mantissa's slope gives three bits; each step triples them.
    let y = f32::from_bits(0x7ef3_11c3u32.wrapping_sub(x.to_bits()));
    let step = |y: f32| {
        let e = A::fma(-x, y, 1.0);
        A::fma(y, A::fma(e, e, e), y)
    };
    step(step(y))
}

/// Whether [`quotient`] divides by this number.
#[inline(always)]
pub(super) fn has_reciprocal(b: f32) -> bool {
    (1e-18..1e18).contains(&b.abs())
}

/// From 2⁻⁶⁰ to 2⁶⁰.
const LEAST_DIVIDEND: u32 = (127 - 60) << 23;
const DIVIDENDS: u32 = 120 << 23;

/// Whether [`quotient`] divides this number.
#[inline(always)]
pub(super) fn divides_by_reciprocal(a: f32) -> bool {
    // Two comparisons of floats, in one of integers.
    (a.to_bits() & 0x7fff_ffff).wrapping_sub(LEAST_DIVIDEND) < DIVIDENDS
}

/// The same, and |a| is less than `limit`.
#[inline(always)]
pub(super) fn divides_by_reciprocal_below(a: f32, limit: f32) -> bool {
    let dividends = limit.to_bits().saturating_sub(LEAST_DIVIDEND).min(DIVIDENDS);
    (a.to_bits() & 0x7fff_ffff).wrapping_sub(LEAST_DIVIDEND) < dividends
}

/// a / b, correctly rounded, from `reciprocal`, the nearest float to 1/b: the first remainder makes the quotient faithful,
/// the second one then exact (Markstein). Only with a fused instruction, and where nothing leaves the range of normal
/// floats.
#[inline(always)]
pub(super) fn quotient<A: Fma>(a: f32, b: f32, reciprocal: f32) -> f32 {
    let step = |q: f32| A::fma(A::fma(-q, b, a), reciprocal, q);
    step(step(a * reciprocal))
}

/// The largest |x| that [`sin`] and [`cos`] reduce with enough digits.
pub(super) const TRIG_RANGE: f32 = 8192.0;

/// x = k · π/2 + r with |r| ≤ π/4: (k, r).
#[inline(always)]
fn quarter_turns<A: Fma>(x: f32) -> (i32, f32) {
    let (n, k) = nearest(x.clamp(-TRIG_RANGE, TRIG_RANGE) * std::f32::consts::FRAC_2_PI);
    // π/2 in four parts whose first three have few enough bits that n · part is exact.
    let r = x - n * 1.570_312_5;
    let r = r - n * 4.837_513e-4;
    let r = A::fma(n, -7.543_713e-8, r);
    (k, A::fma(n, -6.077_1e-11, r))
}

#[inline(always)]
fn sin_or_cos<A: Fma>(k: i32, r: f32) -> f32 {
    let square = r * r;
    let sin = A::fma(r * square, horner::<A>(square, &[-0.166_666_64, 0.008_332_748, -0.000_195_878_7]), r);
    let cos_tail = horner::<A>(square, &[0.041_666_664, -0.001_388_830_2, 2.454_792_2e-5]);
    let cos = 1.0 - A::fma(-(square * square), cos_tail, 0.5 * square);
    let y = if k & 1 == 0 { sin } else { cos };
    if k & 2 == 0 { y } else { -y }
}

/// For |x| ≤ [`TRIG_RANGE`].
#[inline(always)]
pub(super) fn sin<A: Fma>(x: f32) -> f32 {
    let (k, r) = quarter_turns::<A>(x);
    sin_or_cos::<A>(k, r)
}

/// For |x| ≤ [`TRIG_RANGE`].
#[inline(always)]
pub(super) fn cos<A: Fma>(x: f32) -> f32 {
    let (k, r) = quarter_turns::<A>(x);
    sin_or_cos::<A>(k.wrapping_add(1), r)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error in units of the last place of the exact value's nearest f32.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if got.to_bits() == nearest.to_bits() || (got.is_nan() && nearest.is_nan()) || got == nearest {
            return 0.0;
        }
        if !got.is_finite() || !nearest.is_finite() {
            return f64::INFINITY;
        }
        let magnitude = nearest.abs().max(f32::MIN_POSITIVE);
        let ulp = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
        (f64::from(got) - exact).abs() / ulp
    }

    /// Every 1009th float, of both signs.
    fn floats() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(1009).map(f32::from_bits)
    }

    fn worst(name: &str, limit: f64, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) {
        let (mut error, mut at) = (0.0, 0.0);
        for x in floats() {
            let e = ulps(f(x), exact(f64::from(x)));
            if e > error {
                (error, at) = (e, x);
            }
        }
        assert!(error <= limit, "{name}({at:e}) is off by {error} ulp: {} for {}", f(at), exact(at.into()));
    }

    fn check<A: Fma>() {
        worst("exp", 2.0, exp::<A>, f64::exp);
        worst("exp2", 2.0, exp2::<A>, f64::exp2);
        worst("ln", 2.0, ln::<A>, f64::ln);
        worst("log2", 2.0, log2::<A>, f64::log2);
        worst("tanh", 2.0, tanh::<A>, f64::tanh);
    }

    #[test]
    fn every_function_is_within_two_ulp() {
        check::<Separate>();
        check::<Fused>();
    }

    #[test]
    fn quotients_by_a_reciprocal_are_those_of_a_division() {
        let divisors =
            [3.0f32, 20.0, 30.0, 50.0, 0.1, 1.999_999_9, 1.000_000_1, -7.3e-9, 6.1e11, 0.999_999_94];
        for b in divisors {
            assert!(has_reciprocal(b));
            // Every significand, at one exponent, and floats of all exponents.
            let significands = (0..1 << 23).step_by(3).map(|bits| f32::from_bits(bits | 0x3f80_0000));
            for a in significands.chain(floats()).filter(|a| divides_by_reciprocal(*a)) {
                let (got, exact) = (quotient::<Fused>(a, b, 1.0 / b), a / b);
                assert_eq!(got.to_bits(), exact.to_bits(), "{a:e} / {b:e} is {exact:e}, got {got:e}");
            }
        }
        assert!([0.0, -0.0, f32::INFINITY, f32::NAN, 1e-20].map(divides_by_reciprocal) == [false; 5]);
    }

    #[test]
    fn sin_and_cos_are_close_in_their_range() {
        // Near a multiple of π the result is small: the bound is on the larger of the ulp and 2⁻²⁴.
        for x in floats().filter(|x| x.abs() <= TRIG_RANGE) {
            for (got, exact) in [(sin::<Fused>(x), f64::from(x).sin()), (cos::<Fused>(x), f64::from(x).cos())]
            {
                let error = (f64::from(got) - exact).abs();
                assert!(error <= 1.2e-7 || ulps(got, exact) <= 2.0, "{x:e}: {got} for {exact}");
            }
        }
    }
}
