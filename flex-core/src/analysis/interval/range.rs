//! Ranges of values over a box.

use super::Truth;
use crate::ir::{Scalar, Type};

/// Bounds of an i32 or u32 over the points of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntRange {
    /// No value is smaller.
    pub lo: i64,
    /// No value is larger.
    pub hi: i64,
    /// Whether both bounds are proved to be values at some points.
    pub attained: bool,
    /// Whether every integer between the bounds is proved to be a value at some point.
    pub dense: bool,
}

impl IntRange {
    /// Bounds that may be too wide.
    pub const fn within(lo: i64, hi: i64) -> Self {
        Self { lo, hi, attained: false, dense: false }
    }

    /// One value.
    pub const fn single(value: i64) -> Self {
        Self { lo: value, hi: value, attained: true, dense: true }
    }

    /// Every value between two bounds.
    pub const fn every(lo: i64, hi: i64) -> Self {
        Self { lo, hi, attained: true, dense: true }
    }

    /// All values of a type; of i32 for types that are not integers.
    pub const fn any(ty: Type) -> Self {
        let (lo, hi) = limits(ty);
        Self::within(lo, hi)
    }

    /// The value, if there is only one.
    pub const fn as_single(self) -> Option<i64> {
        if self.lo == self.hi { Some(self.lo) } else { None }
    }

    /// Whether a value lies within the bounds.
    pub const fn contains(self, value: i64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// Bounds of the values of both.
    pub fn hull(self, other: Self) -> Self {
        Self::within(self.lo.min(other.lo), self.hi.max(other.hi))
    }

    pub(crate) const fn without_witnesses(self) -> Self {
        Self::within(self.lo, self.hi)
    }
}

/// The smallest and the largest value of an integer type.
pub(super) const fn limits(ty: Type) -> (i64, i64) {
    match ty {
        Type::U32 => (0, u32::MAX as i64),
        _ => (i32::MIN as i64, i32::MAX as i64),
    }
}

/// Bounds of an f32 over the points of a box. Holds for the numbers; `nan` says whether there may be others. Empty
/// (`lo > hi`) where every value is a NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatRange {
    /// No number is smaller.
    pub lo: f32,
    /// No number is larger.
    pub hi: f32,
    /// Whether some value may be a NaN.
    pub nan: bool,
}

impl FloatRange {
    /// Every f32.
    pub const ANY: Self = Self { lo: f32::NEG_INFINITY, hi: f32::INFINITY, nan: true };

    /// The numbers between two bounds.
    pub const fn within(lo: f32, hi: f32) -> Self {
        Self { lo, hi, nan: false }
    }

    /// One value.
    pub const fn single(value: f32) -> Self {
        match value.is_nan() {
            true => Self { lo: f32::INFINITY, hi: f32::NEG_INFINITY, nan: true },
            false => Self { lo: value, hi: value, nan: false },
        }
    }

    /// Whether a value lies within the bounds.
    pub fn contains(self, value: f32) -> bool {
        if value.is_nan() { self.nan } else { self.lo <= value && value <= self.hi }
    }

    /// Bounds of the values of both.
    pub fn hull(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), nan: self.nan | other.nan }
    }

    pub(super) fn is_empty(self) -> bool {
        self.lo > self.hi
    }
}

/// Bounds of the values of a node over the points of a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRange {
    /// Of a bool.
    Bool(Truth),
    /// Of an i32 or u32.
    Int(IntRange),
    /// Of an f32.
    Float(FloatRange),
}

impl ValueRange {
    /// One value.
    pub fn single(value: Scalar) -> Self {
        match value {
            Scalar::Bool(v) => Self::Bool(Truth::always(v)),
            Scalar::I32(v) => Self::Int(IntRange::single(v.into())),
            Scalar::U32(v) => Self::Int(IntRange::single(v.into())),
            Scalar::F32(v) => Self::Float(FloatRange::single(v)),
        }
    }

    /// All values of a type.
    pub const fn any(ty: Type) -> Self {
        match ty {
            Type::Bool => Self::Bool(Truth::UNKNOWN),
            Type::I32 | Type::U32 => Self::Int(IntRange::any(ty)),
            Type::F32 => Self::Float(FloatRange::ANY),
        }
    }

    /// Whether a value of the same type lies within the bounds.
    pub fn contains(self, value: Scalar) -> bool {
        match (self, value) {
            (Self::Bool(truth), Scalar::Bool(v)) => truth.may_be(v),
            (Self::Int(range), Scalar::I32(v)) => range.contains(v.into()),
            (Self::Int(range), Scalar::U32(v)) => range.contains(v.into()),
            (Self::Float(range), Scalar::F32(v)) => range.contains(v),
            _ => false,
        }
    }

    /// What is known of a condition; unknown for numbers.
    pub fn truth(self) -> Truth {
        if let Self::Bool(truth) = self { truth } else { Truth::UNKNOWN }
    }

    /// Bounds of an integer; all of i32 for other types.
    pub fn int(self) -> IntRange {
        if let Self::Int(range) = self { range } else { IntRange::any(Type::I32) }
    }

    /// Bounds of a float; everything for other types.
    pub fn float(self) -> FloatRange {
        if let Self::Float(range) = self { range } else { FloatRange::ANY }
    }

    pub(super) fn without_witnesses(self) -> Self {
        match self {
            Self::Bool(truth) => Self::Bool(truth.without_witnesses()),
            Self::Int(range) => Self::Int(range.without_witnesses()),
            Self::Float(_) => self,
        }
    }
}
