//! From random words to a well-typed expression, one operation a word.

use super::captures::literal;
use super::expression::{ExprConfig, Faults};
use crate::capture::Capture;
use crate::ir::{BinaryOp, Builder, CaptureId, Input, NodeId, Type, UnaryOp};
use crate::mods::BoundExpr;

const TYPES: [Type; 4] = [Type::I32, Type::F32, Type::Bool, Type::U32];
const COMPARISONS: [BinaryOp; 6] =
    [BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge, BinaryOp::Eq, BinaryOp::Ne];
const DIVISIONS: [BinaryOp; 4] = [BinaryOp::Div, BinaryOp::Rem, BinaryOp::DivEuclid, BinaryOp::RemEuclid];
const INTEGER: [BinaryOp; 10] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::Shl,
    BinaryOp::Shr,
];
const INTEGER_UNARY: [UnaryOp; 7] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Signum,
    UnaryOp::Not,
    UnaryOp::CountOnes,
    UnaryOp::LeadingZeros,
    UnaryOp::TrailingZeros,
];
const FLOAT: [BinaryOp; 8] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Rem,
    BinaryOp::Pow,
];
const FLOAT_UNARY: [UnaryOp; 15] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Signum,
    UnaryOp::Sqrt,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Round,
    UnaryOp::Trunc,
    UnaryOp::Exp,
    UnaryOp::Exp2,
    UnaryOp::Ln,
    UnaryOp::Log2,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tanh,
];
/// How many of [`FLOAT_UNARY`] and [`FLOAT`] are exactly rounded.
const EXACT_FLOAT_UNARY: usize = 8;
const EXACT_FLOAT: usize = 7;

/// A random word that decisions are taken from, digit by digit.
pub(super) struct Genes(pub(super) u64);

impl Genes {
    pub(super) fn pick(&mut self, choices: usize) -> usize {
        let choice = self.0 % choices as u64;
        self.0 /= choices as u64;
        choice as usize
    }
}

/// The expression that the words describe.
pub(super) fn grow(config: &ExprConfig, words: &[u64], captures: Vec<Capture>) -> BoundExpr {
    let mut garden =
        Garden { config, builder: Builder::new(), made: [const { Vec::new() }; 4], arrays: Vec::new() };
    garden.sow(&captures);
    for &word in words {
        garden.step(word);
    }
    let root = *garden.of(config.result).last().expect("every type has a seed");
    let expr = garden.builder.finish(root).expect("grown expressions are well-typed");
    BoundExpr::new("random", expr, captures).expect("the captures are those declared")
}

struct Garden<'a> {
    config: &'a ExprConfig,
    builder: Builder,
    /// The nodes made so far, by type.
    made: [Vec<NodeId>; 4],
    arrays: Vec<CaptureId>,
}

impl Garden<'_> {
    fn of(&mut self, ty: Type) -> &mut Vec<NodeId> {
        &mut self.made[ty as usize]
    }

    fn keep(&mut self, id: NodeId) {
        let ty = self.builder.ty(id);
        self.of(ty).push(id);
    }

    /// One of the nodes of a type, most often a recent one, so that expressions grow deep.
    fn any(&mut self, genes: &mut Genes, ty: Type) -> NodeId {
        let recent = genes.pick(4) != 0;
        let made = self.of(ty);
        let back = genes.pick(if recent { made.len().min(3) } else { made.len() });
        made[made.len() - 1 - back]
    }

    /// What there is before the first operation: constants, captured scalars, inputs.
    fn sow(&mut self, captures: &[Capture]) {
        for ty in TYPES {
            let zero = self.builder.constant(crate::ir::Scalar::zero(ty));
            self.keep(zero);
        }
        let one = self.builder.constant(1.0f32);
        self.keep(one);
        for capture in captures {
            let decl = capture.decl();
            let id = self.builder.declare(decl.name, decl.ty, decl.rank);
            if decl.rank == 0 {
                let scalar = self.builder.capture(id);
                self.keep(scalar);
            } else {
                self.arrays.push(id);
            }
        }
        for input in [Input::Batch, Input::Head, Input::Key, Input::Query] {
            let id = self.builder.input(input);
            self.keep(id);
        }
        if self.config.score {
            let score = self.builder.input(Input::Score);
            self.keep(score);
        }
    }

    fn step(&mut self, word: u64) {
        let genes = &mut Genes(word);
        let made = match genes.pick(20) {
            0 => {
                let ty = TYPES[genes.pick(4)];
                self.builder.constant(literal(ty, genes.0))
            }
            1 => self.idiom(genes),
            2..=3 => {
                let limit = if self.config.transcendental { FLOAT_UNARY.len() } else { EXACT_FLOAT_UNARY };
                let op = FLOAT_UNARY[genes.pick(limit)];
                let x = self.any(genes, Type::F32);
                self.builder.unary(op, x)
            }
            4..=6 => {
                let limit = if self.config.transcendental { FLOAT.len() } else { EXACT_FLOAT };
                let op = FLOAT[genes.pick(limit)];
                let (x, y) = (self.any(genes, Type::F32), self.operand(genes, Type::F32));
                self.builder.binary(op, x, y)
            }
            7 => {
                let op = INTEGER_UNARY[genes.pick(INTEGER_UNARY.len())];
                let signed_only = matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Signum);
                let ty = if signed_only || genes.pick(3) > 0 { Type::I32 } else { Type::U32 };
                let x = self.any(genes, ty);
                self.builder.unary(op, x)
            }
            8..=9 => {
                let op = INTEGER[genes.pick(INTEGER.len())];
                let ty = self.integer_type(genes);
                let amount =
                    if matches!(op, BinaryOp::Shl | BinaryOp::Shr) { self.integer_type(genes) } else { ty };
                let (x, y) = (self.any(genes, ty), self.operand(genes, amount));
                self.builder.binary(op, x, y)
            }
            10 => self.division(genes),
            11..=12 => {
                let op = COMPARISONS[genes.pick(COMPARISONS.len())];
                let ty = [Type::I32, Type::I32, Type::F32, Type::U32, Type::Bool][genes.pick(5)];
                let (x, y) = (self.any(genes, ty), self.operand(genes, ty));
                self.builder.binary(op, x, y)
            }
            13 => self.logic(genes),
            14..=15 => {
                let ty = TYPES[genes.pick(4)];
                let condition = self.any(genes, Type::Bool);
                let (accept, reject) = (self.any(genes, ty), self.operand(genes, ty));
                self.builder.select(condition, accept, reject)
            }
            16 => {
                let to = [Type::F32, Type::I32, Type::U32][genes.pick(3)];
                let from = [Type::I32, Type::U32, Type::F32, Type::Bool][genes.pick(4)];
                let x = self.any(genes, if to == Type::F32 && from == Type::Bool { Type::I32 } else { from });
                self.builder.cast(to, x)
            }
            17 => {
                let (ignored, ty) = (TYPES[genes.pick(4)], TYPES[genes.pick(4)]);
                let (first, then) = (self.any(genes, ignored), self.any(genes, ty));
                self.builder.after(first, then)
            }
            _ => self.load(genes),
        };
        self.keep(made);
    }

    /// A made node, or now and then a constant.
    fn operand(&mut self, genes: &mut Genes, ty: Type) -> NodeId {
        if genes.pick(4) == 0 { self.builder.constant(literal(ty, genes.0)) } else { self.any(genes, ty) }
    }

    fn integer_type(&mut self, genes: &mut Genes) -> Type {
        if genes.pick(4) == 0 { Type::U32 } else { Type::I32 }
    }

    fn division(&mut self, genes: &mut Genes) -> NodeId {
        let op = DIVISIONS[genes.pick(4)];
        let ty = self.integer_type(genes);
        let guarded = genes.pick(2) == 0 || self.config.faults == Faults::Never;
        let x = self.any(genes, ty);
        let mut divisor = self.operand(genes, ty);
        if guarded {
            let one = if ty == Type::I32 { self.builder.constant(1i32) } else { self.builder.constant(1u32) };
            divisor = self.builder.binary(BinaryOp::Or, divisor, one);
        }
        self.builder.binary(op, x, divisor)
    }

    fn logic(&mut self, genes: &mut Genes) -> NodeId {
        let op = genes.pick(6);
        let (x, y) = (self.any(genes, Type::Bool), self.any(genes, Type::Bool));
        match op {
            0 => self.builder.unary(UnaryOp::Not, x),
            1 => self.builder.and_then(x, y),
            2 => self.builder.or_else(x, y),
            3 => self.builder.binary(BinaryOp::And, x, y),
            4 => self.builder.binary(BinaryOp::Or, x, y),
            _ => {
                let float = self.any(genes, Type::F32);
                let nan = self.builder.unary(UnaryOp::IsNan, float);
                self.builder.binary(BinaryOp::Xor, x, nan)
            }
        }
    }

    /// What real masks are made of: causality, windows, blocks.
    fn idiom(&mut self, genes: &mut Genes) -> NodeId {
        let b = &mut self.builder;
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let width = 1 + genes.pick(9) as i32;
        let width = b.constant(width);
        match genes.pick(5) {
            0 => b.binary(BinaryOp::Ge, q, kv),
            1 => {
                let distance = b.binary(BinaryOp::Sub, q, kv);
                b.binary(BinaryOp::Le, distance, width)
            }
            2 => {
                let (x, y) = (b.binary(BinaryOp::Div, q, width), b.binary(BinaryOp::Div, kv, width));
                b.binary(BinaryOp::Eq, x, y)
            }
            3 => {
                let distance = b.binary(BinaryOp::Sub, kv, q);
                b.cast(Type::F32, distance)
            }
            _ => b.binary(BinaryOp::Sub, q, kv),
        }
    }

    /// A load of a captured view or the length of one of its axes; a constant where there is no view.
    fn load(&mut self, genes: &mut Genes) -> NodeId {
        if self.arrays.is_empty() {
            let ty = TYPES[genes.pick(4)];
            return self.builder.constant(literal(ty, genes.0));
        }
        let array = self.arrays[genes.pick(self.arrays.len())];
        let decl = self.builder.capture_decl(array).expect("declared").clone();
        if genes.pick(8) == 0 {
            let axis = genes.pick(usize::from(decl.rank)) as u8;
            return self.builder.extent(array, axis);
        }
        // Bare, clamped, or inside an if.
        let guard = genes.pick(4);
        let guard = if guard < 2 && self.config.faults == Faults::Never { guard + 2 } else { guard };
        let mut all_inside = None;
        let mut indices = Vec::new();
        for axis in 0..decl.rank {
            let ty = self.integer_type(genes);
            let mut index = self.any(genes, ty);
            if guard >= 2 {
                let (inside, clamped) = self.inside(array, axis, index);
                if guard == 2 {
                    index = clamped;
                } else {
                    all_inside = Some(match all_inside {
                        None => inside,
                        Some(others) => self.builder.and_then(others, inside),
                    });
                }
            }
            indices.push(index);
        }
        let load = self.builder.load(array, &indices);
        match all_inside {
            Some(inside) => {
                let other = self.any(genes, decl.ty);
                self.builder.select(inside, load, other)
            }
            None => load,
        }
    }

    /// Whether an index is inside an axis, and the index clamped into it (an empty axis stays out of reach).
    fn inside(&mut self, array: CaptureId, axis: u8, index: NodeId) -> (NodeId, NodeId) {
        let b = &mut self.builder;
        let (len, zero, one) = (b.extent(array, axis), b.constant(0i32), b.constant(1i32));
        let last = b.binary(BinaryOp::Sub, len, one);
        if b.ty(index) == Type::U32 {
            let (len, last) = (b.cast(Type::U32, len), b.cast(Type::U32, last));
            return (b.binary(BinaryOp::Lt, index, len), b.binary(BinaryOp::Min, index, last));
        }
        let (above, below) = (b.binary(BinaryOp::Ge, index, zero), b.binary(BinaryOp::Lt, index, len));
        let low = b.binary(BinaryOp::Max, index, zero);
        (b.and_then(above, below), b.binary(BinaryOp::Min, low, last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use crate::ir::Node;
    use crate::testing::{self, ExprConfig, Outcome};

    #[test]
    fn every_kind_of_node_and_fault_occurs_and_expressions_grow() {
        let mut runner = TestRunner::deterministic();
        let (strategy, points) = (testing::expressions(ExprConfig::score()), testing::points());
        let (mut kinds, mut ranks, mut faults, mut total) = (BTreeSet::new(), BTreeSet::new(), [0; 2], 0);
        for _ in 0..2000 {
            let bound = strategy.new_tree(&mut runner).unwrap().current();
            total += bound.expr().nodes().len();
            for node in bound.expr().nodes() {
                match node {
                    Node::Unary(op, _) => kinds.insert(format!("{op:?}")),
                    Node::Binary(op, ..) => kinds.insert(format!("{op:?}")),
                    Node::Load(_, indices) => {
                        ranks.insert(indices.as_slice().len());
                        false
                    }
                    other => kinds.insert(format!("{other:?}").split(['(', ' ']).next().unwrap().into()),
                };
            }
            let at = points.new_tree(&mut runner).unwrap().current();
            faults[usize::from(matches!(testing::outcome(&bound, at, 1.0), Outcome::Fault(_)))] += 1;
        }
        assert_eq!(kinds.len(), 20 + 21 + 7, "{kinds:?}"); // all but Load, which `ranks` shows
        assert_eq!(ranks, (1..=4).collect());
        assert!(faults[0] > 1000 && faults[1] > 100, "{faults:?}");
        assert!(total > 2000 * 6, "{total}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(5000)))]
        #[test]
        fn no_faults_where_none_are_asked_for(
            bound in testing::expressions(ExprConfig::score().without_faults()),
            at in testing::points(),
            score in testing::scores(),
        ) {
            prop_assert!(matches!(testing::outcome(&bound, at, score), Outcome::Value(_)));
        }
    }
}
