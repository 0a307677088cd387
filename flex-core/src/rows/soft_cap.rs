//! Scores capped by a hyperbolic tangent, a row at a time.

use super::math::{self, Fma};

/// `cap · tanh(score / divisor)`, each operation as it is alone. A row of scores that are small beside the divisor needs
/// neither a division nor an exponential; the values are the same either way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SoftCap {
    divisor: f32,
    cap: f32,
}

/// The coefficients of (tanh x)/x in x² for |x| ≤ 1, lowest power first: within 5·10⁻⁸ of it.
const TANH_UP_TO_1: [f64; 7] =
    [0.99999995, -0.333328392, 0.13325204, -0.0534570249, 0.0202899697, -0.00620336854, 0.00104101883];

/// How the scores of a row are capped, all in the same way.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// All are small; they are multiplied by the reciprocal.
    Small(f32),
    /// They are multiplied by the reciprocal.
    Usual(f32),
    /// All are small.
    SmallDivided,
    Divided,
}

/// Does something with the function of a score that caps it, in the way of a row. Not a function that takes a closure: a
/// closure that is not inlined is compiled without the vector instructions.
macro_rules! in_each_way {
    ($cap:expr, $way:expr, $arithmetic:ty, |$capped:ident| $body:expr) => {
        match $way {
            Way::Small(reciprocal) => {
                let $capped = |x| $cap.small::<$arithmetic>(x, reciprocal);
                $body
            }
            Way::Usual(reciprocal) => {
                let $capped = |x| $cap.usual::<$arithmetic>(x, reciprocal);
                $body
            }
            Way::SmallDivided => {
                let $capped = |x| $cap.small_divided::<$arithmetic>(x);
                $body
            }
            Way::Divided => {
                let $capped = |x| $cap.divided::<$arithmetic>(x);
                $body
            }
        }
    };
}

pub(super) use in_each_way;

impl SoftCap {
    /// What stands where nothing is capped.
    pub(crate) const NONE: Self = Self { divisor: 1.0, cap: 1.0 };

    pub(crate) fn new(divisor: f32, cap: f32) -> Self {
        Self { divisor, cap }
    }

    /// Divisor and cap.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> [f32; 2] {
        [self.divisor, self.cap]
    }

    /// The logarithm to base 2 of eˢ of capped scores s, as an odd polynomial of scores that are still to be multiplied by
    /// `scale`; and how large these may be after that, for the polynomial to be within 1 ulp or so and at most `most`.
    /// `None` where an f32 does not hold the coefficients, or the cap turns scores round.
    pub(crate) fn exponents(&self, scale: f32, most: f32) -> Option<(f32, [f32; 7])> {
        let [divisor, cap, scale] = [self.divisor, self.cap, scale].map(f64::from);
        let mut power = cap * std::f64::consts::LOG2_E;
        let step = scale / divisor;
        // tanh x is not larger than x.
        let most = f64::from(most) / (power / divisor).abs();
        power *= step;
        let coefficients = TANH_UP_TO_1.map(|c| {
            let coefficient = (c * power) as f32;
            power *= step * step;
            coefficient
        });
        let is_exact = coefficients.iter().all(|c| c.is_normal());
        (is_exact && coefficients[0] > 0.0).then_some((most.min(divisor.abs()) as f32, coefficients))
    }

    /// The way for a row of scores, given as their bits.
    #[inline(always)]
    pub(super) fn way<A: Fma>(&self, row: &[u32]) -> Way {
        let b = self.divisor;
        // The quotients of what is below this round to what is small.
        let limit = 0.999 * math::TANH_SMALL * b.abs();
        if !(A::FUSED && math::has_reciprocal(b)) {
            let small = |all: bool, &x: &u32| all & (f32::from_bits(x).abs() < limit);
            return if row.iter().fold(true, small) { Way::SmallDivided } else { Way::Divided };
        }
        let small = |all: bool, &x: &u32| all & math::divides_by_reciprocal_below(f32::from_bits(x), limit);
        if row.iter().fold(true, small) {
            return Way::Small(1.0 / b);
        }
        let usual = |all: bool, &x: &u32| all & math::divides_by_reciprocal(f32::from_bits(x));
        if row.iter().fold(true, usual) { Way::Usual(1.0 / b) } else { Way::Divided }
    }

    #[inline(always)]
    pub(super) fn small<A: Fma>(&self, x: f32, reciprocal: f32) -> f32 {
        math::tanh_small::<A>(math::quotient::<A>(x, self.divisor, reciprocal)) * self.cap
    }

    #[inline(always)]
    pub(super) fn usual<A: Fma>(&self, x: f32, reciprocal: f32) -> f32 {
        math::tanh::<A>(math::quotient::<A>(x, self.divisor, reciprocal)) * self.cap
    }

    #[inline(always)]
    pub(super) fn small_divided<A: Fma>(&self, x: f32) -> f32 {
        math::tanh_small::<A>(x / self.divisor) * self.cap
    }

    #[inline(always)]
    pub(super) fn divided<A: Fma>(&self, x: f32) -> f32 {
        math::tanh::<A>(x / self.divisor) * self.cap
    }

    /// Caps a row of scores where they lie.
    #[inline(always)]
    pub(crate) fn apply<A: Fma>(&self, row: &mut [f32]) {
        let way = self.way::<A>(bytemuck::must_cast_slice(row));
        in_each_way!(self, way, A, |capped| {
            for x in row {
                *x = capped(*x);
            }
        });
    }
}
