//! Masks: which keys a query sees.

use std::ops::{BitAnd, BitOr, Not};

use super::bound::{BindError, BoundExpr, Combiner};
use crate::capture::{Capture, CaptureValue};
use crate::ir::{BinaryOp, Expr, Input, NodeId, Scalar, Type, UnaryOp};

/// A bound mask mod: true where query q of head h in batch b sees key kv. Combine with `&`, `|`, `!`.
#[derive(Clone, Debug)]
pub struct MaskMod(BoundExpr);

impl MaskMod {
    /// A mask of an expression.
    ///
    /// # Errors
    /// If the captures do not fit, the expression is not a bool, or it uses the score.
    pub fn new(
        name: impl Into<std::sync::Arc<str>>,
        expr: Expr,
        captures: Vec<Capture>,
    ) -> Result<Self, BindError> {
        let bound = BoundExpr::new(name, expr, captures)?;
        let wrong = |got: String| BindError::WrongKind {
            name: bound.name().into(),
            expected: "a bool expression over b, h, q, kv",
            got,
        };
        if bound.expr().result_type() != Type::Bool {
            return Err(wrong(format!("an expression of type {}", bound.expr().result_type())));
        }
        if bound.expr().uses(Input::Score) {
            return Err(wrong("an expression over the score".into()));
        }
        Ok(Self(bound))
    }

    /// The mask that keeps everything.
    pub fn all() -> Self {
        Self::combined("all".into(), |c| c.builder.constant(true))
    }

    /// The expression and its captures.
    pub fn bound(&self) -> &BoundExpr {
        &self.0
    }

    /// The name, as `flex mask` and errors show it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The same mask with the values of captured scalars written into its code: kernels divide by constants faster than by
    /// numbers known only at run time, but every value is compiled anew.
    pub fn with_constant_scalars(&self) -> Self {
        Self(self.0.with_constant_scalars())
    }

    /// The same mask under another name.
    pub fn named(self, name: impl Into<std::sync::Arc<str>>) -> Self {
        Self(self.0.renamed(name))
    }

    /// The mask seen by queries that start at position `offset`: row q of the result is row q + offset of this mask.
    /// For decoding and chunked prefill. The offset is a run-time value: changing it compiles nothing.
    pub fn shift_q(&self, offset: i32) -> Self {
        self.shift(Input::Query, "q_offset", offset)
    }

    /// The mask seen of keys that start at position `offset`: column kv of the result is column kv + offset of this
    /// mask.
    pub fn shift_kv(&self, offset: i32) -> Self {
        self.shift(Input::Key, "kv_offset", offset)
    }

    /// The mask with an offset added to one of its indices.
    pub(crate) fn shift(&self, input: Input, name: &str, offset: i32) -> Self {
        Self::combined(self.name().into(), |c| {
            let inputs = shifted(c, input, name, offset);
            c.inline(&self.0, inputs)
        })
    }

    fn combined(name: String, build: impl FnOnce(&mut Combiner) -> NodeId) -> Self {
        Self(BoundExpr::combine(name, build).expect("a combination of checked masks is a mask"))
    }

    fn pair(self, op: BinaryOp, symbol: char, other: Self) -> Self {
        let name = format!("({} {symbol} {})", self.name(), other.name());
        Self::combined(name, |c| {
            let inputs = c.inputs();
            let (a, b) = (c.inline(&self.0, inputs), c.inline(&other.0, inputs));
            match op {
                BinaryOp::And => c.builder.and_then(a, b),
                _ => c.builder.or_else(a, b),
            }
        })
    }
}

/// The inputs with a run-time offset added to one of them.
pub(super) fn shifted(c: &mut Combiner, input: Input, name: &str, offset: i32) -> [NodeId; 5] {
    let mut inputs = c.inputs();
    let id = c.capture(Capture { name: name.into(), value: CaptureValue::Scalar(Scalar::I32(offset)) });
    let offset = c.builder.capture(id);
    let slot = &mut inputs[input as usize];
    *slot = c.builder.binary(BinaryOp::Add, *slot, offset);
    inputs
}

/// Both masks hold. The right one is evaluated only where the left one holds, so it may rely on it.
impl BitAnd for MaskMod {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.pair(BinaryOp::And, '&', other)
    }
}

/// One of the masks holds. The right one is evaluated only where the left one does not hold.
impl BitOr for MaskMod {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.pair(BinaryOp::Or, '|', other)
    }
}

/// The mask does not hold.
impl Not for MaskMod {
    type Output = Self;
    fn not(self) -> Self {
        Self::combined(format!("!{}", self.name()), |c| {
            let inputs = c.inputs();
            let x = c.inline(&self.0, inputs);
            c.builder.unary(UnaryOp::Not, x)
        })
    }
}

macro_rules! by_reference {
    ($($trait:ident $method:ident)*) => {$(
        impl $trait<&MaskMod> for &MaskMod {
            type Output = MaskMod;
            fn $method(self, other: &MaskMod) -> MaskMod {
                $trait::$method(self.clone(), other.clone())
            }
        }
        impl $trait<&MaskMod> for MaskMod {
            type Output = MaskMod;
            fn $method(self, other: &MaskMod) -> MaskMod {
                $trait::$method(self, other.clone())
            }
        }
        impl $trait<MaskMod> for &MaskMod {
            type Output = MaskMod;
            fn $method(self, other: MaskMod) -> MaskMod {
                $trait::$method(self.clone(), other)
            }
        }
    )*};
}
by_reference!(BitAnd bitand BitOr bitor);

impl Not for &MaskMod {
    type Output = MaskMod;
    fn not(self) -> MaskMod {
        !self.clone()
    }
}
