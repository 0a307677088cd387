//! The names of the operations.

use crate::ir::{BinaryOp, Type, UnaryOp};

macro_rules! names {
    ($op:ident: $($variant:ident $name:literal)*) => {
        impl $op {
            /// All operations.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the textual form and in errors.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The operation of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names!(UnaryOp:
    Neg "neg" Not "not" Abs "abs" Signum "signum" Sqrt "sqrt" Exp "exp" Exp2 "exp2" Ln "ln" Log2 "log2" Sin "sin"
    Cos "cos" Tanh "tanh" Floor "floor" Ceil "ceil" Round "round" Trunc "trunc" IsNan "is_nan"
    CountOnes "count_ones" LeadingZeros "leading_zeros" TrailingZeros "trailing_zeros"
);

names!(BinaryOp:
    Add "add" Sub "sub" Mul "mul" Div "div" Rem "rem" DivEuclid "div_euclid" RemEuclid "rem_euclid" Min "min"
    Max "max" Pow "pow" And "and" Or "or" Xor "xor" Shl "shl" Shr "shr" Eq "eq" Ne "ne" Lt "lt" Le "le" Gt "gt"
    Ge "ge"
);

impl Type {
    /// All types.
    pub const ALL: [Self; 4] = [Self::Bool, Self::I32, Self::U32, Self::F32];

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }
}
