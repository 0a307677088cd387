//! The instructions that an expression is lowered to.

use crate::ir::{BinaryOp, CaptureId, Type, UnaryOp};

/// Where a value is. Every value is 32 bits; a bool is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// Known when the program is made.
    Const(u32),
    /// One for each head: a scalar register.
    Scalar(u32),
    /// One for each row: a register of rows.
    Row(u32),
    /// One for each key, the same for all rows: a lane register, of which only the first row is used.
    Column(u32),
    /// One for each row and key: a lane register.
    Element(u32),
}

impl Operand {
    /// Whether there is a value for each key.
    pub(super) fn is_lanes(self) -> bool {
        matches!(self, Self::Column(_) | Self::Element(_))
    }
}

/// What an instruction computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    /// An operation on `a`, of the given type.
    Unary(UnaryOp, Type),
    /// An operation on `a` and `b`, where `a` has the given type. A zero divisor counts as 1.
    Binary(BinaryOp, Type),
    /// `b` where `a` holds, else `c`.
    Select,
    /// From the first type to the second.
    Cast(Type, Type),
    /// Whether the index `a` is outside an axis of this length: a fault.
    Outside(u32),
    /// Whether the divisor `a` is zero: a fault.
    IsZero,
    /// `a · stride + min(b, len − 1)`: the offset of a load, an axis at a time. `a` starts as 0.
    Offset {
        /// The length of the axis, at least 1.
        len: u32,
    },
    /// The element of a captured view at offset `a`, which is inside.
    Load(CaptureId),
    /// The difference of two i32 as an f32.
    Difference,
    /// `a · b + c` of f32, each operation rounded.
    MulAdd,
    /// `c · tanh(a / b)` of f32, each operation as it is alone; b and c are the same for a whole row.
    SoftCap,
}

/// `dst = op(a, b, c)`; what an operation does not take is `Const(0)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instr {
    pub(super) op: Op,
    pub(super) dst: u32,
    pub(super) a: Operand,
    pub(super) b: Operand,
    pub(super) c: Operand,
}
