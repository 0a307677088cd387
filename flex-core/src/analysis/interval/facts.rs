//! What a condition says inside its branches.
//!
//! A branch that may fault over the whole box is evaluated again with the facts of its condition: `kv < len && doc[kv]`
//! cannot fault, though kv may reach len. Facts are bounds of linear shapes, so they also reach `q - kv` in
//! `q >= kv && bias[q - kv]`.

use super::evaluate::{IntervalAnalysis, NodeState};
use super::linear::Shape;
use super::program::Step;
use super::{IntRange, ValueRange};
use crate::ir::{BinaryOp, NodeId};

/// How many conditions deep branches are looked at again.
const MAX_DEPTH: u32 = 4;
/// How many times in all branches are looked at again for one box.
const MAX_REFINEMENTS: u32 = 24;

/// Bounds of linear shapes that hold in a branch.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts(Vec<Fact>);

#[derive(Clone, Copy, Debug)]
struct Fact {
    shape: u32,
    lo: i64,
    hi: i64,
    /// A value that the shape does not have.
    not: Option<i64>,
}

/// A node has no value: the branch is never taken.
struct Unreachable;

impl Facts {
    /// Sharpens the range of a node of the given shape.
    fn apply(&self, shape: Shape, range: IntRange) -> Result<IntRange, Unreachable> {
        let mut range = range;
        for fact in self.0.iter().filter(|fact| fact.shape == shape.id) {
            let at = |v: i64| v.saturating_mul(shape.sign).saturating_add(shape.constant);
            let (x, y) = (at(fact.lo), at(fact.hi));
            let (mut lo, mut hi) = (range.lo.max(x.min(y)), range.hi.min(x.max(y)));
            if let Some(not) = fact.not.map(at) {
                lo += i64::from(lo == not);
                hi -= i64::from(hi == not);
            }
            if lo > hi {
                return Err(Unreachable);
            }
            if (lo, hi) != (range.lo, range.hi) {
                range = IntRange::within(lo, hi);
            }
        }
        Ok(range)
    }
}

impl IntervalAnalysis<'_> {
    /// Whether `branch` may fault at a point of the box where `condition` has the value `taken`.
    pub(super) fn faults_under(&mut self, condition: NodeId, taken: bool, branch: NodeId) -> bool {
        if self.depth >= MAX_DEPTH || self.refinements >= MAX_REFINEMENTS {
            return true;
        }
        let known = self.facts.0.len();
        self.learn(condition, taken);
        if self.facts.0.len() == known {
            return true;
        }
        self.depth += 1;
        self.refinements += 1;
        let saved = self.states.clone();
        let faults = self.evaluate_under_facts(branch).is_ok_and(|state| state.may_fault);
        self.states = saved;
        self.depth -= 1;
        self.facts.0.truncate(known);
        faults
    }

    fn evaluate_under_facts(&mut self, branch: NodeId) -> Result<NodeState, Unreachable> {
        let program = self.program;
        for &id in program.order.iter().take_while(|id| **id <= branch) {
            let mut state = self.step(id);
            if let (Some(shape), ValueRange::Int(range), true) =
                (program.shapes[id.index()], state.value, state.exact)
            {
                state.value = ValueRange::Int(self.facts.apply(shape, range)?);
            }
            self.states[id.index()] = state;
        }
        Ok(self.states[branch.index()])
    }

    /// Adds what follows from `condition` having the value `taken`.
    fn learn(&mut self, condition: NodeId, taken: bool) {
        let program = self.program;
        match &program.steps[condition.index()] {
            Step::Unary(crate::ir::UnaryOp::Not, x) => self.learn(*x, !taken),
            // a & b holds where both do; a | b does not hold where both do not.
            Step::Arithmetic { op: BinaryOp::And, operands, .. } if taken => {
                operands.iter().for_each(|&x| self.learn(x, true));
            }
            Step::Arithmetic { op: BinaryOp::Or, operands, .. } if !taken => {
                operands.iter().for_each(|&x| self.learn(x, false));
            }
            &Step::Select { condition, accept, reject } => {
                let constant = |x: NodeId, value| self.range(x).truth().is_always(value);
                let (and, or) = (constant(reject, false), constant(accept, true));
                if taken && and {
                    self.learn(condition, true);
                    self.learn(accept, true);
                } else if !taken && or {
                    self.learn(condition, false);
                    self.learn(reject, false);
                }
            }
            Step::Comparison { op, operands: [a, b], shape: Some(shape), .. }
                if self.states[a.index()].exact && self.states[b.index()].exact =>
            {
                self.learn_difference(if taken { *op } else { op.negated() }, *shape);
            }
            _ => {}
        }
    }

    /// Adds that `shape op 0` holds.
    fn learn_difference(&mut self, op: BinaryOp, shape: Shape) {
        const FAR: i64 = 1 << 61;
        let (lo, hi, not) = match op {
            BinaryOp::Ge => (0, FAR, None),
            BinaryOp::Gt => (1, FAR, None),
            BinaryOp::Le => (-FAR, 0, None),
            BinaryOp::Lt => (-FAR, -1, None),
            BinaryOp::Eq => (0, 0, None),
            _ => (-FAR, FAR, Some(0)),
        };
        // shape = sign · (difference − constant)
        let at = |v: i64| if v.abs() == FAR { v * shape.sign } else { (v - shape.constant) * shape.sign };
        let (x, y) = (at(lo), at(hi));
        let fact = Fact { shape: shape.id, lo: x.min(y), hi: x.max(y), not: not.map(at) };
        self.facts.0.push(fact);
        self.learn_terms(fact);
    }

    /// Adds the bounds of the single terms that follow from a bound of their sum.
    fn learn_terms(&mut self, fact: Fact) {
        let program = self.program;
        let terms = program.forms.terms(fact.shape);
        if terms.len() < 2 {
            return;
        }
        for (i, &(term, factor)) in terms.iter().enumerate() {
            let Some(Shape { id: shape, .. }) = program.shapes[term.index()] else { continue };
            let (mut others_lo, mut others_hi) = (0, 0);
            for (_, &(other, f)) in terms.iter().enumerate().filter(|&(j, _)| j != i) {
                let range = self.int(other);
                let (x, y) = (range.lo * f, range.hi * f);
                (others_lo, others_hi) = (others_lo + x.min(y), others_hi + x.max(y));
            }
            let (lo, hi) = (fact.lo - others_hi, fact.hi - others_lo);
            // factor · term lies in lo..=hi
            let (lo, hi) = match factor > 0 {
                true => (div_ceil(lo, factor), hi.div_euclid(factor)),
                false => (div_ceil(-hi, -factor), (-lo).div_euclid(-factor)),
            };
            self.facts.0.push(Fact { shape, lo, hi, not: None });
        }
    }
}

fn div_ceil(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}
