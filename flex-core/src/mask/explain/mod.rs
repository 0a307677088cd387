//! Why a tile is full, empty or partial.

mod infix;

use std::fmt;
use std::ops::Range;

use super::{BlockMask, MaskError, Origin, TileKind};
use crate::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram, Span};
use crate::ir::{BinaryOp, Expr, Node, NodeId, Scalar, Type, UnaryOp};
use crate::mods::BoundExpr;
use infix::infix;

/// Why a tile is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the mask does to the tile; `None` where it is skipped.
    pub kind: Option<TileKind>,
    /// Its queries inside the extent.
    pub queries: Range<usize>,
    /// Its keys inside the extent.
    pub keys: Range<usize>,
    /// Whether the analysis alone tells; otherwise elements were evaluated.
    pub proved: bool,
    /// Which parts of the mask make it so.
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            None => "skipped",
            Some(TileKind::Full) => "full",
            Some(TileKind::Partial) => "partial",
        };
        let (Range { start: q, end: q_end }, Range { start: kv, end: kv_end }) = (&self.queries, &self.keys);
        write!(f, "The tile of queries {q}..{q_end} and keys {kv}..{kv_end} is {kind}: {}.", self.reason)
    }
}

impl BlockMask {
    /// Says why a tile is full, skipped or partial.
    ///
    /// # Errors
    /// If there is no such tile.
    pub fn explain(
        &self,
        b: usize,
        h: usize,
        q_block: usize,
        kv_block: usize,
    ) -> Result<Explanation, MaskError> {
        let places = [
            ("batch", b, self.extent.batch),
            ("heads", h, self.extent.heads),
            ("q_block", q_block, self.q_blocks()),
            ("kv_block", kv_block, self.kv_blocks()),
        ];
        for (dimension, start, len) in places {
            if start >= len {
                return Err(MaskError::OutsideExtent { dimension, start, end: start.saturating_add(1), len });
            }
        }
        let inside = |block: usize, size: usize, len: usize| block * size..len.min((block + 1) * size);
        let queries = inside(q_block, self.block.q, self.extent.q_len);
        let keys = inside(kv_block, self.block.kv, self.extent.kv_len);
        let kind = self.tile(b, h, q_block, kv_block);
        let explained = |proved, reason| Explanation {
            kind,
            queries: queries.clone(),
            keys: keys.clone(),
            proved,
            reason,
        };
        match self.origin {
            Origin::Given => {
                return Ok(explained(false, "the tiles of this block mask were given, not built".into()));
            }
            Origin::Unskipped => {
                return Ok(explained(false, "this block mask was built to skip no tile".into()));
            }
            Origin::Proved => {}
        }
        let span = |range: &Range<usize>| Span { first: range.start as i32, last: range.end as i32 - 1 };
        let program = IntervalProgram::new(self.mask.bound());
        let mut analysis = IntervalAnalysis::new(&program);
        let tile = IndexBox {
            b: Span::single(b as i32),
            h: Span::single(h as i32),
            q: span(&queries),
            kv: span(&keys),
        };
        analysis.evaluate(&tile, FloatRange::ANY);
        let explainer = Explainer { bound: self.mask.bound(), analysis };
        let root = self.mask.bound().expr().root();
        let may_fault = explainer.analysis.root_may_fault();
        let decided = kind.is_none_or(|kind| kind == TileKind::Full);
        let value = kind.is_some();
        let truth = explainer.analysis.root().truth();
        Ok(match decided {
            true if truth.is_always(value) && !may_fault => explained(true, explainer.decided(root, value)),
            true => explained(
                false,
                format!("every element was evaluated, and is {value}: {}", explainer.parts(root)),
            ),
            false => explained(truth.is_mixed() && !may_fault, explainer.parts(root)),
        })
    }
}

struct Explainer<'a> {
    bound: &'a BoundExpr,
    analysis: IntervalAnalysis<'a>,
}

/// A condition taken apart.
enum Form {
    And(NodeId, NodeId),
    Or(NodeId, NodeId),
    Not(NodeId),
    Other,
}

fn form(expr: &Expr, id: NodeId) -> Form {
    let is = |x: NodeId, value| *expr.node(x) == Node::Const(Scalar::Bool(value));
    match *expr.node(id) {
        Node::Select { condition, accept, reject } if is(reject, false) => Form::And(condition, accept),
        Node::Select { condition, accept, reject } if is(accept, true) => Form::Or(condition, reject),
        Node::Binary(BinaryOp::And, a, b) if expr.ty(a) == Type::Bool => Form::And(a, b),
        Node::Binary(BinaryOp::Or, a, b) if expr.ty(a) == Type::Bool => Form::Or(a, b),
        Node::Unary(UnaryOp::Not, x) => Form::Not(x),
        _ => Form::Other,
    }
}

impl Explainer<'_> {
    fn is_always(&self, id: NodeId, value: bool) -> bool {
        self.analysis.range(id).truth().is_always(value)
    }

    /// Why a condition always has a value.
    fn decided(&self, id: NodeId, value: bool) -> String {
        let expr = self.bound.expr();
        match form(expr, id) {
            Form::Not(x) if self.is_always(x, !value) => self.decided(x, !value),
            // One side is enough to make `a && b` false, or `a || b` true.
            Form::And(a, b) if !value => self.either(id, a, b, value),
            Form::Or(a, b) if value => self.either(id, a, b, value),
            Form::And(a, b) | Form::Or(a, b) if self.is_always(a, value) && self.is_always(b, value) => {
                format!("{}, and {}", self.decided(a, value), self.decided(b, value))
            }
            _ => format!("`{}` is {value} for every element", infix(self.bound, id)),
        }
    }

    fn either(&self, id: NodeId, a: NodeId, b: NodeId, value: bool) -> String {
        match [a, b].into_iter().find(|&x| self.is_always(x, value)) {
            Some(side) => self.decided(side, value),
            None => format!("`{}` is {value} for every element", infix(self.bound, id)),
        }
    }

    /// What is known of the parts of a condition.
    fn parts(&self, id: NodeId) -> String {
        match form(self.bound.expr(), id) {
            Form::And(a, b) | Form::Or(a, b) => format!("{}; {}", self.parts(a), self.parts(b)),
            _ => {
                let truth = self.analysis.range(id).truth();
                let state = match () {
                    () if truth.is_always(true) => "is true for every element",
                    () if truth.is_always(false) => "is false for every element",
                    () if truth.is_mixed() => "is true for some elements and false for others",
                    () => "may be true and may be false",
                };
                format!("`{}` {state}", infix(self.bound, id))
            }
        }
    }
}
