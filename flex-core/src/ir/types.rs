//! The types and constants of the language of mods.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// The type of a value inside a mod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Type {
    /// `bool`.
    Bool,
    /// `i32`, wrapping; the type of the indices.
    I32,
    /// `u32`, wrapping.
    U32,
    /// `f32`, the type of scores.
    F32,
}

impl Type {
    /// Whether the type is `i32` or `u32`.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::U32)
    }

    /// Whether arithmetic is defined on the type.
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool)
    }

    /// The name of the type in Rust.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::F32 => "f32",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A constant or a computed value. Two `F32` are equal when their bits are, so that a NaN equals itself and
/// `0.0` differs from `-0.0`: that is what hash-consing and differential tests need.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    I32(i32),
    /// An unsigned integer.
    U32(u32),
    /// A float. Serialised by its bits: JSON has neither NaN nor infinities.
    F32(#[serde(with = "f32_bits")] f32),
}

mod f32_bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        u32::deserialize(deserializer).map(f32::from_bits)
    }
}

impl Scalar {
    /// The type of the value.
    pub const fn ty(self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::I32(_) => Type::I32,
            Self::U32(_) => Type::U32,
            Self::F32(_) => Type::F32,
        }
    }

    /// The value's 32 bits; a bool is 0 or 1.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bool(v) => v as u32,
            Self::I32(v) => v as u32,
            Self::U32(v) => v,
            Self::F32(v) => v.to_bits(),
        }
    }

    /// The zero of a type (`false` for bool).
    pub const fn zero(ty: Type) -> Self {
        match ty {
            Type::Bool => Self::Bool(false),
            Type::I32 => Self::I32(0),
            Type::U32 => Self::U32(0),
            Type::F32 => Self::F32(0.0),
        }
    }

    /// The bool inside, if it is one.
    pub const fn as_bool(self) -> Option<bool> {
        if let Self::Bool(v) = self { Some(v) } else { None }
    }

    /// The float inside, if it is one.
    pub const fn as_f32(self) -> Option<f32> {
        if let Self::F32(v) = self { Some(v) } else { None }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.ty() == other.ty() && self.bits() == other.bits()
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ty().hash(state);
        self.bits().hash(state);
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::I32(v) => write!(f, "{v}i32"),
            Self::U32(v) => write!(f, "{v}u32"),
            Self::F32(v) if v.is_nan() => write!(f, "nan:{:08x}f32", v.to_bits()),
            Self::F32(v) => write!(f, "{v:?}f32"),
        }
    }
}

macro_rules! scalar_from {
    ($($variant:ident: $native:ty),*) => {$(
        impl From<$native> for Scalar {
            fn from(value: $native) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}
scalar_from!(Bool: bool, I32: i32, U32: u32, F32: f32);
