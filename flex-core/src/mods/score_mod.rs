//! Score mods: what becomes of a score before the softmax.

use super::bound::{BindError, BoundExpr, Combiner};
use super::mask_mod::shifted;
use crate::capture::Capture;
use crate::ir::{Expr, Input, NodeId, Type};

/// A bound score mod: the new score of query q and key kv from the old one.
#[derive(Clone, Debug)]
pub struct ScoreMod(BoundExpr);

impl ScoreMod {
    /// A score mod of an expression.
    ///
    /// # Errors
    /// If the captures do not fit or the expression is not an f32.
    pub fn new(
        name: impl Into<std::sync::Arc<str>>,
        expr: Expr,
        captures: Vec<Capture>,
    ) -> Result<Self, BindError> {
        let bound = BoundExpr::new(name, expr, captures)?;
        let got = bound.expr().result_type();
        if got != Type::F32 {
            return Err(BindError::WrongKind {
                name: bound.name().into(),
                expected: "an f32 expression over score, b, h, q, kv",
                got: format!("an expression of type {got}"),
            });
        }
        Ok(Self(bound))
    }

    /// The score mod that changes nothing.
    pub fn identity() -> Self {
        Self::combined("identity".into(), |c| c.builder.input(Input::Score))
    }

    /// The expression and its captures.
    pub fn bound(&self) -> &BoundExpr {
        &self.0
    }

    /// The name, as errors and `flex kernel` show it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The same score mod with the values of captured scalars written into its code: kernels divide by constants faster than by
    /// numbers known only at run time, but every value is compiled anew.
    pub fn with_constant_scalars(&self) -> Self {
        Self(self.0.with_constant_scalars())
    }

    /// The same score mod under another name.
    pub fn named(self, name: impl Into<std::sync::Arc<str>>) -> Self {
        Self(self.0.renamed(name))
    }

    /// This mod first, then `next` on its result.
    pub fn then(&self, next: &Self) -> Self {
        Self::combined(format!("{}.then({})", self.name(), next.name()), |c| {
            let mut inputs = c.inputs();
            inputs[Input::Score as usize] = c.inline(&self.0, inputs);
            c.inline(&next.0, inputs)
        })
    }

    /// The mod as queries that start at position `offset` see it: row q is row q + offset of this mod. The offset is a
    /// run-time value: changing it compiles nothing.
    pub fn shift_q(&self, offset: i32) -> Self {
        Self::combined(self.name().into(), |c| {
            let inputs = shifted(c, Input::Query, "q_offset", offset);
            c.inline(&self.0, inputs)
        })
    }

    fn combined(name: String, build: impl FnOnce(&mut Combiner) -> NodeId) -> Self {
        Self(BoundExpr::combine(name, build).expect("a combination of checked score mods is a score mod"))
    }
}
