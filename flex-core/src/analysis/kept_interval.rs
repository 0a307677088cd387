//! Masks that keep one interval of keys in every row: causal, windows, padding, sorted documents, and all of these together.
//!
//! Found in the expression, not by name: a conjunction of conditions of the row alone, of comparisons in which kv stands
//! once, and of equalities between a sorted captured array at kv and a value of the row; and disjunctions whose sides all
//! reach back to the first key, or all on to the last, as a prefix that everyone sees and the keys before the query do. A
//! kernel that knows the interval needs two comparisons an element, whatever the mask's own are.

use std::ops::Range;
use std::sync::Arc;

use super::interpret::{Interpreter, Point};
use super::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram};
use crate::capture::Array;
use crate::ir::semantics::Value;
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Scalar, Type, UnaryOp};
use crate::mask::BlockMask;
use crate::mods::{BindError, BoundExpr};

/// One condition of the conjunction.
#[derive(Clone, Debug)]
enum Condition {
    /// A bool of the row.
    Row(BoundExpr),
    /// `constant + Σ factor · row value + sign · kv`, compared with 0.
    Bound { op: BinaryOp, sign: i64, constant: i64, terms: Vec<(BoundExpr, i64)> },
    /// A sorted array at kv is a value of the row.
    Same { array: Arc<Array>, value: BoundExpr },
    /// One of two conjunctions. What they keep starts at the first key in both, or ends at the last in both, or is empty:
    /// so together they keep an interval.
    Either([Vec<Condition>; 2]),
}

/// The end of the keys that a set reaches, if it is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    FirstKey,
    LastKey,
}

impl Condition {
    fn reaches(&self, end: Reach) -> bool {
        match self {
            Self::Row(_) => true,
            Self::Bound { op, sign, .. } => match op {
                BinaryOp::Ge | BinaryOp::Gt => (*sign > 0) == (end == Reach::LastKey),
                BinaryOp::Le | BinaryOp::Lt => (*sign > 0) == (end == Reach::FirstKey),
                _ => false,
            },
            Self::Same { .. } => false,
            Self::Either(sides) => sides.iter().flatten().all(|condition| condition.reaches(end)),
        }
    }
}

/// For every row of a block mask the interval of keys that its mask keeps.
#[derive(Clone, Debug)]
pub struct KeptIntervals {
    conditions: Vec<Condition>,
    kv_len: i64,
}

impl KeptIntervals {
    /// The intervals of a mask, if it is seen to keep one in every row of the block mask's extent. The block mask proves
    /// that the mask does not fault there; its tiles are not used.
    pub fn of(block_mask: &BlockMask) -> Option<Self> {
        let bound = block_mask.mask_mod().bound();
        let extent = block_mask.extent();
        let all = IndexBox::of(&extent);
        let program = IntervalProgram::new(bound);
        let mut analysis = IntervalAnalysis::new(&program);
        analysis.evaluate(&all, FloatRange::ANY);
        let mut search = Search {
            bound,
            program: &program,
            analysis: &analysis,
            kv_len: extent.kv_len,
            found: Vec::new(),
        };
        search.conjunction(bound.expr().root(), true)?;
        Some(Self { conditions: search.found, kv_len: extent.kv_len as i64 })
    }

    /// The keys that a row keeps; empty as `0..0`.
    pub fn row(&self, b: i32, h: i32, q: i32) -> Range<i32> {
        let (first, end) = self.keys_that(&self.conditions, Point { b, h, q, kv: 0 });
        first as i32..end as i32
    }

    /// The keys for which all conditions hold, as `[first, end)`; none as `(0, 0)`.
    fn keys_that(&self, conditions: &[Condition], at: Point) -> (i64, i64) {
        const NONE: (i64, i64) = (0, 0);
        // A part of the row that faults is one that the mask never gets to: an earlier condition keeps no key, or an
        // earlier side all of them.
        let value = |part: &BoundExpr| Interpreter::<f32>::new(part).evaluate(at, 0.0).ok();
        let (mut first, mut end) = (0, self.kv_len);
        for condition in conditions {
            let (from, to) = match condition {
                Condition::Row(part) => match value(part).is_some_and(Value::truth) {
                    true => continue,
                    false => return NONE,
                },
                Condition::Bound { op, sign, constant, terms } => {
                    let mut sum = *constant;
                    for (part, factor) in terms {
                        let Some(value) = value(part) else { return NONE };
                        sum += factor * value.integer();
                    }
                    keys(*op, *sign, sum)
                }
                Condition::Same { array, value: part } => match value(part) {
                    None => return NONE,
                    Some(value) => equal_range(array, value.integer(), self.kv_len),
                },
                Condition::Either(sides) => match sides.each_ref().map(|side| self.keys_that(side, at)) {
                    [NONE, kept] | [kept, NONE] => kept,
                    [a, b] => (a.0.min(b.0), a.1.max(b.1)),
                },
            };
            (first, end) = (first.max(from), end.min(to));
            if first >= end {
                return NONE;
            }
        }
        (first, end)
    }
}

/// The keys for which `sum + sign · kv` compares with 0.
fn keys(op: BinaryOp, sign: i64, sum: i64) -> (i64, i64) {
    const FAR: i64 = i64::MAX / 4;
    // sign · kv lies in least..=most.
    let (least, most) = match op {
        BinaryOp::Ge => (-sum, FAR),
        BinaryOp::Gt => (1 - sum, FAR),
        BinaryOp::Le => (-FAR, -sum),
        BinaryOp::Lt => (-FAR, -sum - 1),
        _ => (-sum, -sum),
    };
    if sign > 0 { (least, most + 1) } else { (-most, -least + 1) }
}

/// Where a sorted array has a value, among its first elements.
fn equal_range(array: &Array, value: i64, len: i64) -> (i64, i64) {
    let below = |limit: i64| {
        let (mut lo, mut hi) = (0, len);
        while lo < hi {
            let mid = (lo + hi) / 2;
            let element = array.get(mid as usize).map_or(i64::MAX, integer);
            if element < limit { lo = mid + 1 } else { hi = mid }
        }
        lo
    };
    (below(value), below(value + 1))
}

fn integer(value: Scalar) -> i64 {
    match value {
        Scalar::I32(v) => v.into(),
        Scalar::U32(v) => v.into(),
        Scalar::Bool(v) => v.into(),
        Scalar::F32(_) => 0,
    }
}

struct Search<'a> {
    bound: &'a BoundExpr,
    program: &'a IntervalProgram,
    analysis: &'a IntervalAnalysis<'a>,
    kv_len: usize,
    found: Vec<Condition>,
}

impl Search<'_> {
    /// Adds the conditions that make up "`id` is `value`"; `None` if there are others than those looked for.
    fn conjunction(&mut self, id: NodeId, value: bool) -> Option<()> {
        let expr = self.bound.expr().clone();
        let constant = |x: NodeId, value| *expr.node(x) == Node::Const(Scalar::Bool(value));
        if !self.program.depends_on(id, Input::Key) {
            let part = match value {
                true => self.part(id),
                false => self.negated(id),
            };
            self.found.push(Condition::Row(part.ok()?));
            return Some(());
        }
        match *expr.node(id) {
            Node::Unary(UnaryOp::Not, x) => self.conjunction(x, !value),
            Node::Select { condition, accept, reject } if value && constant(reject, false) => {
                self.conjunction(condition, true)?;
                self.conjunction(accept, true)
            }
            Node::Select { condition, accept, reject } if !value && constant(accept, true) => {
                self.conjunction(condition, false)?;
                self.conjunction(reject, false)
            }
            Node::Select { condition, accept, reject } if value && constant(accept, true) => {
                self.disjunction([condition, reject], true)
            }
            Node::Select { condition, accept, reject } if !value && constant(reject, false) => {
                self.disjunction([condition, accept], false)
            }
            Node::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b)
                if expr.ty(a) == Type::Bool && value == (op == BinaryOp::Or) =>
            {
                self.disjunction([a, b], value)
            }
            Node::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b)
                if expr.ty(a) == Type::Bool && value == (op == BinaryOp::And) =>
            {
                self.conjunction(a, value)?;
                self.conjunction(b, value)
            }
            Node::Binary(op, a, b) if op.is_comparison() && expr.ty(a).is_integer() => {
                let op = if value { op } else { op.negated() };
                match self.comparison(&expr, op, a, b) {
                    Some(found) => self.found.push(found),
                    None if op == BinaryOp::Eq => {
                        let found = self.same(&expr, a, b).or_else(|| self.same(&expr, b, a))?;
                        self.found.push(found);
                    }
                    None => return None,
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Adds "one of the two is `value`", if the keys of both reach the same end.
    fn disjunction(&mut self, sides: [NodeId; 2], value: bool) -> Option<()> {
        let before = std::mem::take(&mut self.found);
        let sides = sides.map(|side| {
            let found = self.conjunction(side, value);
            found.map(|()| std::mem::take(&mut self.found))
        });
        self.found = before;
        let [Some(a), Some(b)] = sides else { return None };
        let either = Condition::Either([a, b]);
        let is_interval = either.reaches(Reach::FirstKey) || either.reaches(Reach::LastKey);
        is_interval.then(|| self.found.push(either))
    }

    fn comparison(&self, expr: &Expr, op: BinaryOp, a: NodeId, b: NodeId) -> Option<Condition> {
        if op == BinaryOp::Ne || !self.analysis.is_linear(a) || !self.analysis.is_linear(b) {
            return None;
        }
        let (constant, difference) = self.program.difference(a, b)?;
        let (mut sign, mut terms) = (0, Vec::new());
        for (node, factor) in difference {
            match *expr.node(node) {
                Node::Input(Input::Key) => sign = factor,
                _ if self.program.depends_on(node, Input::Key) => return None,
                _ => terms.push((self.part(node).ok()?, factor)),
            }
        }
        (sign.abs() == 1).then_some(Condition::Bound { op, sign, constant, terms })
    }

    /// `load == value`, where the load is of a sorted array at kv.
    fn same(&self, expr: &Expr, load: NodeId, value: NodeId) -> Option<Condition> {
        let Node::Load(capture, indices) = *expr.node(load) else { return None };
        let array = self.bound.captures()[capture.index()].array()?;
        let at_key = matches!(*indices.as_slice(), [index] if *expr.node(index) == Node::Input(Input::Key));
        let sorted = array.len() >= self.kv_len && array.is_sorted_on(0..self.kv_len);
        if !at_key || !sorted || self.program.depends_on(value, Input::Key) {
            return None;
        }
        Some(Condition::Same { array: array.clone(), value: self.part(value).ok()? })
    }

    /// A node of the mask as an expression of its own.
    fn part(&self, root: NodeId) -> Result<BoundExpr, BindError> {
        let expr = Expr { root, ..(**self.bound.expr()).clone() };
        BoundExpr::new(self.bound.name(), expr, self.bound.captures().to_vec())
    }

    fn negated(&self, id: NodeId) -> Result<BoundExpr, BindError> {
        let mut expr = (**self.bound.expr()).clone();
        expr.nodes.push(Node::Unary(UnaryOp::Not, id));
        expr.types.push(Type::Bool);
        expr.root = NodeId(expr.nodes.len() as u32 - 1);
        BoundExpr::new(self.bound.name(), expr, self.bound.captures().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mask::tests::{causal, document, mask_of, window};
    use crate::mask::{Extent, create_block_mask, create_mask};
    use crate::mods::MaskMod;
    use crate::testing::{self, ExprConfig};

    fn prefix(end: i32) -> MaskMod {
        mask_of(|b, _, kv| {
            let end = b.constant(end);
            b.binary(BinaryOp::Lt, kv, end)
        })
    }

    /// Whether the intervals were found; if so they are the rows.
    fn check(mask: &MaskMod, extent: Extent) -> Result<bool, TestCaseError> {
        let built = create_block_mask(mask, extent)?;
        let Some(intervals) = KeptIntervals::of(&built) else { return Ok(false) };
        let dense = create_mask(mask, extent)?;
        let [batch, heads, q_len, kv_len] = dense.shape;
        for (row, keep) in dense.keep.chunks(kv_len).enumerate() {
            let (b, h, q) = (row / q_len / heads % batch, row / q_len % heads, row % q_len);
            let kept = intervals.row(b as i32, h as i32, q as i32);
            let found: Vec<bool> = (0..kv_len as i32).map(|kv| kept.contains(&kv)).collect();
            prop_assert_eq!(&found, keep, "b={} h={} q={}: {:?}", b, h, q, kept);
        }
        Ok(true)
    }

    const EXTENT: Extent = Extent { batch: 1, heads: 1, q_len: 60, kv_len: 50 };

    #[test]
    fn causal_windows_and_documents_are_intervals() {
        let ids: Vec<i32> = (0..60).map(|i| i / 13).collect();
        let masks = [
            causal(),
            causal() & window(7),
            !window(-5) & causal().shift_q(-9),
            document(&ids),
            document(&ids) & causal() & window(4),
            MaskMod::all(),
            !MaskMod::all(),
            prefix(20) | causal(),
            (prefix(20) | causal()) & window(30),
            causal() | !window(5),
            !(prefix(10) | causal()),
            !(prefix(10) & causal()),
            !prefix(30) | window(5) | MaskMod::all(),
        ];
        for mask in masks {
            assert!(check(&mask, EXTENT).unwrap(), "{}", mask.name());
        }
    }

    #[test]
    fn masks_with_gaps_are_not_taken_for_intervals() {
        let unsorted: Vec<i32> = (0..60).map(|i| i % 3).collect();
        for mask in [document(&unsorted), !document(&unsorted), !causal() | !window(5), prefix(9) | window(3)]
        {
            assert!(!check(&mask, EXTENT).unwrap(), "{}", mask.name());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(3_000)))]

        #[test]
        fn what_is_found_are_the_rows(
            mask in testing::masks(ExprConfig::mask().without_faults().steps(1..=6)),
            narrow in any::<bool>(),
        ) {
            let extent = Extent { batch: 2, heads: 2, q_len: 9, kv_len: 11 };
            check(&if narrow { mask & causal() } else { mask }, extent)?;
        }
    }
}
