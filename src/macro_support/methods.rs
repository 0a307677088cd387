//! The numeric methods of mods, each with exactly its meaning in Rust.
//!
//! The names are those of the methods. The type of the receiver decides, as in Rust; the macros and rustc have checked
//! that it has the method.

use flex_core::ir::{BinaryOp, NodeId, Type, UnaryOp};

use super::Lowering;

macro_rules! unary {
    ($($name:ident: $op:ident)*) => {$(
        pub fn $name(&mut self, x: NodeId) -> NodeId {
            self.unary(UnaryOp::$op, x)
        }
    )*};
}

macro_rules! binary {
    ($($name:ident: $op:ident)*) => {$(
        pub fn $name(&mut self, a: NodeId, b: NodeId) -> NodeId {
            self.binary(BinaryOp::$op, a, b)
        }
    )*};
}

#[allow(clippy::missing_panics_doc)]
impl Lowering<'_> {
    unary! {
        abs: Abs signum: Signum sqrt: Sqrt exp: Exp exp2: Exp2 ln: Ln log2: Log2 sin: Sin cos: Cos tanh: Tanh
        floor: Floor ceil: Ceil round: Round trunc: Trunc is_nan: IsNan
        count_ones: CountOnes leading_zeros: LeadingZeros trailing_zeros: TrailingZeros
    }
    binary! { powf: Pow wrapping_add: Add wrapping_sub: Sub wrapping_mul: Mul }

    pub fn min(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let op = if self.type_of(a) == Type::Bool { BinaryOp::And } else { BinaryOp::Min };
        self.binary(op, a, b)
    }

    pub fn max(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let op = if self.type_of(a) == Type::Bool { BinaryOp::Or } else { BinaryOp::Max };
        self.binary(op, a, b)
    }

    /// A NaN stays, which `max` and `min` would not do.
    pub fn clamp(&mut self, x: NodeId, low: NodeId, high: NodeId) -> NodeId {
        if self.type_of(x) != Type::F32 {
            let raised = self.max(x, low);
            return self.min(raised, high);
        }
        let below = self.binary(BinaryOp::Lt, x, low);
        let raised = self.select(below, low, x);
        let above = self.binary(BinaryOp::Gt, raised, high);
        self.select(above, high, raised)
    }

    pub fn wrapping_neg(&mut self, x: NodeId) -> NodeId {
        if self.type_of(x) == Type::U32 {
            let zero = self.constant(0u32);
            return self.binary(BinaryOp::Sub, zero, x);
        }
        self.unary(UnaryOp::Neg, x)
    }

    pub fn fract(&mut self, x: NodeId) -> NodeId {
        let whole = self.trunc(x);
        self.binary(BinaryOp::Sub, x, whole)
    }

    pub fn recip(&mut self, x: NodeId) -> NodeId {
        let one = self.constant(1.0f32);
        self.binary(BinaryOp::Div, one, x)
    }

    pub fn is_finite(&mut self, x: NodeId) -> NodeId {
        let (size, infinity) = (self.abs(x), self.constant(f32::INFINITY));
        self.binary(BinaryOp::Lt, size, infinity)
    }

    pub fn is_infinite(&mut self, x: NodeId) -> NodeId {
        let (size, infinity) = (self.abs(x), self.constant(f32::INFINITY));
        self.binary(BinaryOp::Eq, size, infinity)
    }

    pub fn is_positive(&mut self, x: NodeId) -> NodeId {
        let zero = self.constant(0i32);
        self.binary(BinaryOp::Gt, x, zero)
    }

    pub fn is_negative(&mut self, x: NodeId) -> NodeId {
        let zero = self.constant(0i32);
        self.binary(BinaryOp::Lt, x, zero)
    }

    pub fn unsigned_abs(&mut self, x: NodeId) -> NodeId {
        let size = self.abs(x);
        self.cast(Type::U32, size)
    }

    pub fn abs_diff(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let (low, high) = (self.binary(BinaryOp::Min, a, b), self.binary(BinaryOp::Max, a, b));
        // Wraps where the distance is over i32::MAX, and the cast makes it right again.
        let distance = self.binary(BinaryOp::Sub, high, low);
        self.cast(Type::U32, distance)
    }

    pub fn rem_euclid(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if self.type_of(a) != Type::F32 {
            return self.binary(BinaryOp::RemEuclid, a, b);
        }
        let (rest, zero) = (self.binary(BinaryOp::Rem, a, b), self.constant(0.0f32));
        let negative = self.binary(BinaryOp::Lt, rest, zero);
        let size = self.abs(b);
        let raised = self.binary(BinaryOp::Add, rest, size);
        self.select(negative, raised, rest)
    }

    pub fn div_euclid(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if self.type_of(a) != Type::F32 {
            return self.binary(BinaryOp::DivEuclid, a, b);
        }
        let (zero, one) = (self.constant(0.0f32), self.constant(1.0f32));
        let quotient = self.binary(BinaryOp::Div, a, b);
        let whole = self.trunc(quotient);
        let rest = self.binary(BinaryOp::Rem, a, b);
        let negative = self.binary(BinaryOp::Lt, rest, zero);
        let positive_divisor = self.binary(BinaryOp::Gt, b, zero);
        let (lower, higher) =
            (self.binary(BinaryOp::Sub, whole, one), self.binary(BinaryOp::Add, whole, one));
        let adjusted = self.select(positive_divisor, lower, higher);
        self.select(negative, adjusted, whole)
    }

    /// Wrapping, as all integer arithmetic of mods.
    pub fn pow(&mut self, x: NodeId, exponent: u32) -> NodeId {
        let one = self.literal(self.builder.ty(x), 1);
        self.power(x, exponent, one)
    }

    /// In the order of multiplications that compilers use for `powi`.
    pub fn powi(&mut self, x: NodeId, exponent: i32) -> NodeId {
        let one = self.constant(1.0f32);
        let power = self.power(x, exponent.unsigned_abs(), one);
        if exponent < 0 { self.recip(power) } else { power }
    }

    fn power(&mut self, x: NodeId, mut exponent: u32, one: NodeId) -> NodeId {
        let (mut square, mut result) = (x, None);
        loop {
            if exponent & 1 == 1 {
                result = Some(match result {
                    None => square,
                    Some(before) => self.binary(BinaryOp::Mul, before, square),
                });
            }
            exponent >>= 1;
            if exponent == 0 {
                return result.unwrap_or(one);
            }
            square = self.binary(BinaryOp::Mul, square, square);
        }
    }
}
