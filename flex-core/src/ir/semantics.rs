//! What each operation means, on values. The one place that every backend is tested against.

use super::{BinaryOp, Scalar, Type, UnaryOp};

/// The floating-point type that stands for `f32` in an evaluation: f32 itself, or f64 for oracles.
pub trait Real: Copy + PartialOrd + std::fmt::Debug {
    /// Zero.
    const ZERO: Self;
    /// The nearest value.
    fn from_f64(x: f64) -> Self;
    /// The exact value.
    fn to_f64(self) -> f64;
    /// An operation that f32 has in the language; `None` for the others.
    fn unary(self, op: UnaryOp) -> Option<Self>;
    /// An arithmetic operation that f32 has in the language; `None` for the others.
    fn binary(self, op: BinaryOp, other: Self) -> Option<Self>;
}

macro_rules! real {
    ($native:ty) => {
        impl Real for $native {
            const ZERO: Self = 0.0;

            fn from_f64(x: f64) -> Self {
                x as Self
            }

            #[allow(clippy::unnecessary_cast, reason = "one of the two types needs it")]
            fn to_f64(self) -> f64 {
                self as f64
            }

            fn unary(self, op: UnaryOp) -> Option<Self> {
                use UnaryOp::*;
                Some(match op {
                    Neg => -self,
                    Abs => self.abs(),
                    Signum => self.signum(),
                    Sqrt => self.sqrt(),
                    Exp => self.exp(),
                    Exp2 => self.exp2(),
                    Ln => self.ln(),
                    Log2 => self.log2(),
                    Sin => self.sin(),
                    Cos => self.cos(),
                    Tanh => self.tanh(),
                    Floor => self.floor(),
                    Ceil => self.ceil(),
                    Round => self.round(),
                    Trunc => self.trunc(),
                    Not | IsNan | CountOnes | LeadingZeros | TrailingZeros => return None,
                })
            }

            fn binary(self, op: BinaryOp, other: Self) -> Option<Self> {
                use BinaryOp::*;
                Some(match op {
                    Add => self + other,
                    Sub => self - other,
                    Mul => self * other,
                    Div => self / other,
                    Rem => self % other,
                    Min => self.min(other),
                    Max => self.max(other),
                    Pow => self.powf(other),
                    _ => return None,
                })
            }
        }
    };
}
real!(f32);
real!(f64);

/// A value in an evaluation whose floats are `R`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<R> {
    /// A bool.
    Bool(bool),
    /// An i32.
    I32(i32),
    /// A u32.
    U32(u32),
    /// What the language calls f32.
    Real(R),
}

/// An integer was divided by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivisionByZero;

impl<R: Real> From<Scalar> for Value<R> {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Bool(v) => Self::Bool(v),
            Scalar::I32(v) => Self::I32(v),
            Scalar::U32(v) => Self::U32(v),
            Scalar::F32(v) => Self::Real(R::from_f64(v.into())),
        }
    }
}

impl<R: Real> From<Value<R>> for Scalar {
    /// Rounds to f32.
    fn from(value: Value<R>) -> Self {
        match value {
            Value::Bool(v) => Self::Bool(v),
            Value::I32(v) => Self::I32(v),
            Value::U32(v) => Self::U32(v),
            Value::Real(v) => Self::F32(v.to_f64() as f32),
        }
    }
}

impl<R: Real> Value<R> {
    /// The bool; false for the other types.
    pub fn truth(self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// The integer, exactly; 0 for the other types.
    pub fn integer(self) -> i64 {
        match self {
            Self::I32(v) => v.into(),
            Self::U32(v) => v.into(),
            _ => 0,
        }
    }

    /// The float; zero for the other types.
    pub fn real(self) -> R {
        if let Self::Real(v) = self { v } else { R::ZERO }
    }
}

/// The value of `op x`. The operand has a type that the operation is defined on (the builder sees to it).
pub fn unary<R: Real>(op: UnaryOp, x: Value<R>) -> Value<R> {
    use UnaryOp::*;
    match (op, x) {
        (Neg, Value::I32(v)) => Value::I32(v.wrapping_neg()),
        (Abs, Value::I32(v)) => Value::I32(v.wrapping_abs()),
        (Signum, Value::I32(v)) => Value::I32(v.signum()),
        (Not, Value::Bool(v)) => Value::Bool(!v),
        (Not, Value::I32(v)) => Value::I32(!v),
        (Not, Value::U32(v)) => Value::U32(!v),
        (CountOnes, Value::I32(_) | Value::U32(_)) => Value::U32(word(x).count_ones()),
        (LeadingZeros, Value::I32(_) | Value::U32(_)) => Value::U32(word(x).leading_zeros()),
        (TrailingZeros, Value::I32(_) | Value::U32(_)) => Value::U32(word(x).trailing_zeros()),
        (IsNan, Value::Real(v)) => Value::Bool(v.partial_cmp(&v).is_none()),
        (op, Value::Real(v)) => v.unary(op).map_or(x, Value::Real),
        (_, x) => x,
    }
}

/// The value of `a op b`.
///
/// # Errors
/// For integer division by zero.
pub fn binary<R: Real>(op: BinaryOp, a: Value<R>, b: Value<R>) -> Result<Value<R>, DivisionByZero> {
    use BinaryOp::*;
    if matches!(op, Shl | Shr) {
        let amount = word(b);
        return Ok(match (op, a) {
            (Shl, Value::I32(v)) => Value::I32(v.wrapping_shl(amount)),
            (Shl, Value::U32(v)) => Value::U32(v.wrapping_shl(amount)),
            (_, Value::I32(v)) => Value::I32(v.wrapping_shr(amount)),
            (_, Value::U32(v)) => Value::U32(v.wrapping_shr(amount)),
            (_, other) => other,
        });
    }
    if op.is_comparison() {
        return Ok(Value::Bool(compare(op, a, b)));
    }
    match (a, b) {
        (Value::Bool(x), Value::Bool(y)) => Ok(Value::Bool(match op {
            And => x & y,
            Or => x | y,
            _ => x ^ y,
        })),
        (Value::I32(x), Value::I32(y)) => {
            if op.is_division() && y == 0 {
                return Err(DivisionByZero);
            }
            Ok(Value::I32(match op {
                Add => x.wrapping_add(y),
                Sub => x.wrapping_sub(y),
                Mul => x.wrapping_mul(y),
                Div => x.wrapping_div(y),
                Rem => x.wrapping_rem(y),
                DivEuclid => x.wrapping_div_euclid(y),
                RemEuclid => x.wrapping_rem_euclid(y),
                Min => x.min(y),
                Max => x.max(y),
                And => x & y,
                Or => x | y,
                _ => x ^ y,
            }))
        }
        (Value::U32(x), Value::U32(y)) => {
            if op.is_division() && y == 0 {
                return Err(DivisionByZero);
            }
            Ok(Value::U32(match op {
                Add => x.wrapping_add(y),
                Sub => x.wrapping_sub(y),
                Mul => x.wrapping_mul(y),
                Div | DivEuclid => x / y,
                Rem | RemEuclid => x % y,
                Min => x.min(y),
                Max => x.max(y),
                And => x & y,
                Or => x | y,
                _ => x ^ y,
            }))
        }
        (Value::Real(x), Value::Real(y)) => Ok(x.binary(op, y).map_or(a, Value::Real)),
        _ => Ok(a),
    }
}

/// The value of `x as ty`.
pub fn cast<R: Real>(ty: Type, x: Value<R>) -> Value<R> {
    match (ty, x) {
        (Type::Bool, _) => x,
        (Type::I32, Value::Bool(v)) => Value::I32(v.into()),
        (Type::I32, Value::U32(v)) => Value::I32(v as i32),
        (Type::I32, Value::Real(v)) => Value::I32(v.to_f64() as i32),
        (Type::U32, Value::Bool(v)) => Value::U32(v.into()),
        (Type::U32, Value::I32(v)) => Value::U32(v as u32),
        (Type::U32, Value::Real(v)) => Value::U32(v.to_f64() as u32),
        (Type::F32, Value::I32(v)) => Value::Real(R::from_f64(v.into())),
        (Type::F32, Value::U32(v)) => Value::Real(R::from_f64(v.into())),
        (Type::F32, Value::Bool(v)) => Value::Real(R::from_f64(u8::from(v).into())),
        (_, same) => same,
    }
}

fn word<R>(x: Value<R>) -> u32 {
    match x {
        Value::Bool(v) => v.into(),
        Value::I32(v) => v as u32,
        Value::U32(v) => v,
        Value::Real(_) => 0,
    }
}

fn compare<R: Real>(op: BinaryOp, a: Value<R>, b: Value<R>) -> bool {
    use std::cmp::Ordering::*;
    let order = match (a, b) {
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(&y)),
        (Value::I32(x), Value::I32(y)) => Some(x.cmp(&y)),
        (Value::U32(x), Value::U32(y)) => Some(x.cmp(&y)),
        (Value::Real(x), Value::Real(y)) => x.partial_cmp(&y),
        _ => None,
    };
    match op {
        BinaryOp::Eq => order == Some(Equal),
        BinaryOp::Ne => order != Some(Equal),
        BinaryOp::Lt => order == Some(Less),
        BinaryOp::Le => matches!(order, Some(Less | Equal)),
        BinaryOp::Gt => order == Some(Greater),
        _ => matches!(order, Some(Greater | Equal)),
    }
}
