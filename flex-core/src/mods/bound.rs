//! An expression with its captures: what masks and score mods have in common.

use std::sync::Arc;

use crate::analysis::simplify::simplify;
use crate::capture::{Capture, CaptureValue};
use crate::ir::{BuildError, Builder, CaptureId, Expr, Input, Node, NodeId, Scalar, Type};
use crate::rows::LoweredOnce;

/// Why a mod could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The expression is not well-typed.
    #[error("mod `{name}` could not be built: {source}")]
    Build {
        /// The mod.
        name: String,
        /// What is wrong with it.
        source: BuildError,
    },
    /// The expression has the wrong type, or uses the score in a mask.
    #[error("mod `{name}` should be {expected}, got {got}")]
    WrongKind {
        /// The mod.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The number, type or rank of a capture does not fit the expression.
    #[error("capture `{capture}` of mod `{name}` should be {expected}, got {got}")]
    Capture {
        /// The mod.
        name: String,
        /// The capture.
        capture: String,
        /// Type and rank that the expression declares.
        expected: String,
        /// Type and rank of the value.
        got: String,
    },
    /// An axis of a captured array is longer than an i32 index can reach.
    #[error(
        "capture `{capture}` of mod `{name}` has an axis of {got} elements, expected at most {max}, which is what an i32 indexes: \
         pass a part of it", max = i32::MAX
    )]
    TooLong {
        /// The mod.
        name: String,
        /// The capture.
        capture: String,
        /// The length of the axis.
        got: usize,
    },
}

/// An expression and the values of its captures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BoundExpr {
    name: Arc<str>,
    expr: Arc<Expr>,
    captures: Arc<[Capture]>,
    /// Its instructions for evaluation by rows, made when first asked for.
    lowered: Arc<LoweredOnce>,
}

impl BoundExpr {
    /// Checks that the captures are what the expression declares.
    ///
    /// # Errors
    /// [`BindError::Capture`] for the first capture that is not, [`BindError::TooLong`] for one that cannot be indexed.
    pub fn new(name: impl Into<Arc<str>>, expr: Expr, captures: Vec<Capture>) -> Result<Self, BindError> {
        let name = name.into();
        let describe = |ty: Type, rank: u8| match rank {
            0 => format!("a scalar {ty}"),
            _ => format!("a rank-{rank} view of {ty}"),
        };
        for i in 0..expr.captures().len().max(captures.len()) {
            let declared = expr.captures().get(i);
            let value = captures.get(i).map(Capture::decl);
            let same = matches!((declared, &value), (Some(d), Some(v)) if d.ty == v.ty && d.rank == v.rank);
            if !same {
                let capture = declared.map(|d| &d.name).or(value.as_ref().map(|v| &v.name)).cloned();
                return Err(BindError::Capture {
                    name: name.to_string(),
                    capture: capture.unwrap_or_default(),
                    expected: declared.map_or("absent".into(), |d| describe(d.ty, d.rank)),
                    got: value.map_or("nothing".into(), |v| describe(v.ty, v.rank)),
                });
            }
        }
        for capture in &captures {
            let axes = capture.array().map_or(&[][..], |array| array.shape());
            if let Some(&got) = axes.iter().find(|&&len| len > i32::MAX as usize) {
                return Err(BindError::TooLong {
                    name: name.to_string(),
                    capture: capture.name.clone(),
                    got,
                });
            }
        }
        Ok(Self { name, expr: Arc::new(expr), captures: captures.into(), lowered: Arc::default() })
    }

    /// The name of the mod, or of the combination.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The expression.
    pub fn expr(&self) -> &Arc<Expr> {
        &self.expr
    }

    /// The captures, in the order of the expression's declarations.
    pub fn captures(&self) -> &Arc<[Capture]> {
        &self.captures
    }

    /// What clones share of their instructions for evaluation by rows.
    pub(crate) fn lowered(&self) -> &LoweredOnce {
        &self.lowered
    }

    /// The same with the values of captured scalars written into the expression.
    pub fn with_constant_scalars(&self) -> Self {
        let mut builder = Builder::new();
        let mut arrays = Vec::new();
        let here: Vec<Result<CaptureId, Scalar>> = self
            .captures
            .iter()
            .map(|capture| match &capture.value {
                CaptureValue::Scalar(value) => Err(*value),
                CaptureValue::Array(_) => {
                    let decl = capture.decl();
                    arrays.push(capture.clone());
                    Ok(builder.declare(decl.name, decl.ty, decl.rank))
                }
            })
            .collect();
        let mut moved: Vec<NodeId> = Vec::with_capacity(self.expr.nodes().len());
        for &node in self.expr.nodes() {
            let id = match (node, node.capture().map(|capture| here[capture.index()])) {
                (_, Some(Err(value))) => builder.constant(value),
                (Node::Load(_, list), Some(Ok(id))) => {
                    let indices: Vec<NodeId> = list.as_slice().iter().map(|i| moved[i.index()]).collect();
                    builder.load(id, &indices)
                }
                (Node::Extent(_, axis), Some(Ok(id))) => builder.extent(id, axis),
                (other, _) => builder.add(other.map_operands(|operand| moved[operand.index()])),
            };
            moved.push(id);
        }
        let expr = builder
            .finish(moved[self.expr.root().index()])
            .expect("constants have the types of their captures");
        let captures = arrays.into();
        Self { name: self.name.clone(), expr: Arc::new(simplify(&expr)), captures, lowered: Arc::default() }
    }

    /// The same, under another name.
    pub fn renamed(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Builds a new expression out of parts of others. Captures of one value are merged.
    pub(crate) fn combine(
        name: String,
        build: impl FnOnce(&mut Combiner) -> NodeId,
    ) -> Result<Self, BindError> {
        let mut combiner = Combiner { builder: Builder::new(), captures: Vec::new() };
        let root = build(&mut combiner);
        let expr = combiner
            .builder
            .finish(root)
            .map_err(|source| BindError::Build { name: name.clone(), source })?;
        Self::new(name, expr, combiner.captures)
    }
}

/// Collects the parts of a combination.
pub(crate) struct Combiner {
    pub(crate) builder: Builder,
    captures: Vec<Capture>,
}

impl Combiner {
    /// The five inputs, as they are.
    pub(crate) fn inputs(&mut self) -> [NodeId; 5] {
        Input::ALL.map(|input| self.builder.input(input))
    }

    /// The expression of `part` at the given inputs.
    pub(crate) fn inline(&mut self, part: &BoundExpr, inputs: [NodeId; 5]) -> NodeId {
        let ids: Vec<CaptureId> = part.captures.iter().map(|capture| self.capture(capture.clone())).collect();
        self.builder.inline(&part.expr, inputs, &ids)
    }

    /// Declares a capture, or finds the one that already has the same array. Scalars are never merged: their values
    /// may differ in the next call of the same kernel.
    pub(crate) fn capture(&mut self, capture: Capture) -> CaptureId {
        let known = |c: &Capture| matches!(c.value, CaptureValue::Array(_)) && c.same_value(&capture);
        if let Some(i) = self.captures.iter().position(known) {
            return CaptureId(i as u32);
        }
        let decl = capture.decl();
        self.captures.push(capture);
        self.builder.declare(decl.name, decl.ty, decl.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Array, ArrayData};

    #[test]
    fn arrays_that_an_i32_cannot_index_are_refused() {
        let bound = |len: usize| {
            // Only the shape matters here: the elements would take gigabytes.
            let array = Array::new(vec![len], ArrayData::Bool(Box::default()));
            let captures = vec![Capture { name: "flags".into(), value: CaptureValue::Array(array.into()) }];
            let text = "capture @0 = flags: View<bool, 1>\nv0 = q\nv1 = load @0[v0]\nreturn v1";
            BoundExpr::new("flagged", text.parse().unwrap(), captures)
        };
        assert!(bound(i32::MAX as usize).is_ok());
        let error = bound(1 << 31).unwrap_err();
        assert!(matches!(&error, BindError::TooLong { capture, got: 0x8000_0000, .. } if capture == "flags"));
        assert!(error.to_string().contains("`flags`") && error.to_string().contains("2147483648"), "{error}");
    }
}
