//! Why a tile is full, empty or partial.

mod infix;

use std::fmt;
use std::ops::Range;

use super::{BlockMask, MaskError, Origin, TileKind};
use crate::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram, Span, Truth};
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
        let program = IntervalProgram::new(self.mask.bound());
        let mut analysis = IntervalAnalysis::new(&program);
        let tile = self.tile_box(b, h, q_block, kv_block);
        analysis.evaluate(&tile, FloatRange::ANY);
        let explainer = Explainer { bound: self.mask.bound(), analysis };
        let (claims, proved) = explainer.claims(kind);
        Ok(match (kind, proved) {
            (None | Some(TileKind::Full), false) => {
                let value = kind.is_some();
                let parts = explainer.text(&claims, "; ");
                explained(false, format!("every element was evaluated, and is {value}: {parts}"))
            }
            (Some(TileKind::Partial), _) => explained(proved, explainer.text(&claims, "; ")),
            _ => explained(true, explainer.text(&claims, ", and ")),
        })
    }

    /// The elements of a tile inside the extent.
    fn tile_box(&self, b: usize, h: usize, q_block: usize, kv_block: usize) -> IndexBox {
        let span = |block: usize, size: usize, len: usize| Span {
            first: (block * size) as i32,
            last: len.min((block + 1) * size) as i32 - 1,
        };
        IndexBox {
            b: Span::single(b as i32),
            h: Span::single(h as i32),
            q: span(q_block, self.block.q, self.extent.q_len),
            kv: span(kv_block, self.block.kv, self.extent.kv_len),
        }
    }
}

/// What the analysis says of a part of the mask on a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    part: NodeId,
    truth: Truth,
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

    fn claim(&self, part: NodeId) -> Claim {
        Claim { part, truth: self.analysis.range(part).truth() }
    }

    /// What makes the tile what it is, and whether that proves it.
    fn claims(&self, kind: Option<TileKind>) -> (Vec<Claim>, bool) {
        let root = self.bound.expr().root();
        let truth = self.analysis.root().truth();
        let mut claims = Vec::new();
        let proved = !self.analysis.root_may_fault()
            && match kind {
                Some(TileKind::Partial) => truth.is_mixed(),
                decided => truth.is_always(decided.is_some()),
            };
        match kind {
            None | Some(TileKind::Full) if proved => self.deciding(root, kind.is_some(), &mut claims),
            _ => self.parts(root, &mut claims),
        }
        (claims, proved)
    }

    /// The parts that give a condition the one value that it has.
    fn deciding(&self, id: NodeId, value: bool, claims: &mut Vec<Claim>) {
        let expr = self.bound.expr();
        match form(expr, id) {
            Form::Not(x) if self.is_always(x, !value) => self.deciding(x, !value, claims),
            // One side is enough to make `a && b` false, or `a || b` true.
            Form::And(a, b) if !value && (self.is_always(a, value) || self.is_always(b, value)) => {
                self.deciding(if self.is_always(a, value) { a } else { b }, value, claims);
            }
            Form::Or(a, b) if value && (self.is_always(a, value) || self.is_always(b, value)) => {
                self.deciding(if self.is_always(a, value) { a } else { b }, value, claims);
            }
            Form::And(a, b) if value && self.is_always(a, value) && self.is_always(b, value) => {
                self.deciding(a, value, claims);
                self.deciding(b, value, claims);
            }
            Form::Or(a, b) if !value && self.is_always(a, value) && self.is_always(b, value) => {
                self.deciding(a, value, claims);
                self.deciding(b, value, claims);
            }
            _ => claims.push(self.claim(id)),
        }
    }

    /// All parts of a condition.
    fn parts(&self, id: NodeId, claims: &mut Vec<Claim>) {
        match form(self.bound.expr(), id) {
            Form::And(a, b) | Form::Or(a, b) => {
                self.parts(a, claims);
                self.parts(b, claims);
            }
            _ => claims.push(self.claim(id)),
        }
    }

    fn text(&self, claims: &[Claim], between: &str) -> String {
        let text = |&Claim { part, truth }: &Claim| {
            let state = match () {
                () if truth.is_always(true) => "is true for every element",
                () if truth.is_always(false) => "is false for every element",
                () if truth.is_mixed() => "is true for some elements and false for others",
                () => "may be true and may be false",
            };
            format!("`{}` {state}", infix(self.bound, part))
        };
        claims.iter().map(text).collect::<Vec<_>>().join(between)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::{Interpreter, Point};
    use crate::ir::semantics::Value;
    use crate::mask::tests::{blocks, extents};
    use crate::testing::{self, ExprConfig};

    /// The values that a part of a mask has on a tile, false first. A part that is not reached where it would fault has
    /// none there.
    fn values(bound: &BoundExpr, part: NodeId, tile: &IndexBox) -> [bool; 2] {
        let expr = Expr { root: part, ..(**bound.expr()).clone() };
        let part = BoundExpr::new("part", expr, bound.captures().to_vec()).unwrap();
        let mut interpreter = Interpreter::<f32>::new(&part);
        let mut found = [false; 2];
        for q in tile.q.first..=tile.q.last {
            for kv in tile.kv.first..=tile.kv.last {
                let at = Point { b: tile.b.first, h: tile.h.first, q, kv };
                if let Ok(Value::Bool(value)) = interpreter.evaluate(at, 0.0) {
                    found[usize::from(value)] = true;
                }
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(2_000)))]

        /// Every reason that is given is true of every element of the tile, and all of them together decide it.
        #[test]
        fn reasons_are_true(
            mask in testing::masks(ExprConfig::mask().without_faults()),
            extent in extents(),
            block in blocks(),
            (b, h, row, column) in any::<(usize, usize, usize, usize)>(),
        ) {
            let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
            let (b, h) = (b % extent.batch, h % extent.heads);
            let (row, column) = (row % built.q_blocks(), column % built.kv_blocks());
            let explained = built.explain(b, h, row, column)?;
            prop_assert_eq!(explained.kind, built.tile(b, h, row, column));
            prop_assert_eq!(explained.queries, row * block.q..extent.q_len.min((row + 1) * block.q));
            prop_assert_eq!(explained.keys, column * block.kv..extent.kv_len.min((column + 1) * block.kv));

            let (explainer_claims, proved, tile) = {
                let program = IntervalProgram::new(mask.bound());
                let tile = built.tile_box(b, h, row, column);
                let mut analysis = IntervalAnalysis::new(&program);
                analysis.evaluate(&tile, FloatRange::ANY);
                let (claims, proved) = Explainer { bound: mask.bound(), analysis }.claims(explained.kind);
                (claims, proved, tile)
            };
            prop_assert_eq!(explained.proved, proved);
            prop_assert!(!explainer_claims.is_empty());
            for Claim { part, truth } in explainer_claims {
                let found = values(mask.bound(), part, &tile);
                for value in [false, true] {
                    prop_assert!(truth.may_be(value) || !found[usize::from(value)], "{truth:?}: {found:?}");
                    prop_assert!(!truth.is_somewhere(value) || found[usize::from(value)], "{truth:?}: {found:?}");
                }
                if proved && explained.kind != Some(TileKind::Partial) {
                    prop_assert!(truth.is_always(true) || truth.is_always(false), "{truth:?} decides nothing");
                }
            }
        }
    }
}
