//! The analysis of one box.

use super::facts::Facts;
use super::linear::Linear;
use super::program::{IntervalProgram, Step};
use super::{FloatRange, IndexBox, IntRange, Span, Truth, ValueRange, float, integer, loads};
use crate::capture::Array;
use crate::ir::{BinaryOp, Indices, Input, NodeId, Type, UnaryOp};

/// What is known of a node over the box.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeState {
    pub(super) value: ValueRange,
    pub(super) may_fault: bool,
    /// Whether the node equals its linear form at every point: nothing in the form wraps.
    pub(super) exact: bool,
}

impl NodeState {
    /// Whether the node has one value on the box, and so on every box inside it.
    pub(super) fn is_settled(&self) -> bool {
        !self.may_fault
            && match self.value {
                ValueRange::Bool(truth) => truth.is_always(true) || truth.is_always(false),
                ValueRange::Int(range) => range.lo == range.hi,
                ValueRange::Float(range) => range.lo == range.hi && !range.nan,
            }
    }

    pub(super) const fn unknown(ty: Type) -> Self {
        Self { value: ValueRange::any(ty), may_fault: true, exact: false }
    }
}

/// Evaluates an [`IntervalProgram`] on one box after another.
#[derive(Clone, Debug)]
pub struct IntervalAnalysis<'p> {
    pub(super) program: &'p IntervalProgram,
    pub(super) states: Vec<NodeState>,
    index_box: IndexBox,
    score: FloatRange,
    /// The inputs that have more than one value in the box, a bit each.
    live: u8,
    pub(super) facts: Facts,
    /// How many conditions the facts come from.
    pub(super) depth: u32,
    /// How many branches were looked at again in this box.
    pub(super) refinements: u32,
    /// Working memory of [`unsettled`](Self::unsettled).
    needed: Vec<bool>,
}

impl<'p> IntervalAnalysis<'p> {
    /// An analysis that has not seen a box yet.
    pub fn new(program: &'p IntervalProgram) -> Self {
        let zero = Span::single(0);
        Self {
            program,
            states: program.initial.clone(),
            index_box: IndexBox { b: zero, h: zero, q: zero, kv: zero },
            score: FloatRange::ANY,
            live: 0,
            facts: Facts::default(),
            depth: 0,
            refinements: 0,
            needed: Vec::new(),
        }
    }

    /// Finds bounds of every node over a box of indices, with the score in a range (masks ignore it).
    pub fn evaluate(&mut self, index_box: &IndexBox, score: FloatRange) {
        let program = self.program;
        self.evaluate_nodes(&program.order, index_box, score);
    }

    /// The same for some nodes only. Those that they need besides keep what was last found for them, which must have
    /// been on a box around this one.
    pub(crate) fn evaluate_nodes(&mut self, nodes: &[NodeId], index_box: &IndexBox, score: FloatRange) {
        let IndexBox { b, h, q, kv } = *index_box;
        self.index_box = *index_box;
        self.score = score;
        self.refinements = 0;
        self.live = 1 << Input::Score as u8;
        for (input, span) in [(Input::Batch, b), (Input::Head, h), (Input::Query, q), (Input::Key, kv)] {
            self.live |= u8::from(span.first != span.last) << input as u8;
        }
        for &id in nodes {
            self.states[id.index()] = self.step(id);
        }
    }

    /// Those of `nodes` that must be evaluated again for boxes inside the last one, for the root to be known there: not
    /// those that are constant on the last box, nor what only they or branches that are never taken need.
    pub(crate) fn unsettled(&mut self, nodes: &[NodeId], unsettled: &mut Vec<NodeId>) {
        let program = self.program;
        unsettled.clear();
        self.needed.clear();
        self.needed.resize(program.steps.len(), false);
        self.needed[program.root.index()] = true;
        for &id in nodes.iter().rev() {
            if !self.needed[id.index()] || self.states[id.index()].is_settled() {
                continue;
            }
            unsettled.push(id);
            if let Step::Select { condition, accept, reject } = program.steps[id.index()]
                && self.states[condition.index()].is_settled()
            {
                let taken = self.states[condition.index()].value.truth().is_always(true);
                self.needed[if taken { accept } else { reject }.index()] = true;
            } else {
                program.for_each_operand(id, |x| self.needed[x.index()] = true);
            }
        }
        unsettled.reverse();
    }

    /// All nodes that depend on the box.
    pub(crate) fn nodes(&self) -> &'p [NodeId] {
        &self.program.order
    }

    /// Bounds of a node's values at those points of the last box where it does not fault.
    pub fn range(&self, node: NodeId) -> ValueRange {
        self.states[node.index()].value
    }

    /// Whether a node (or what it needs) may fault at some point of the last box, if it is evaluated at all points.
    /// The fault of the root is that of the expression.
    pub fn may_fault(&self, node: NodeId) -> bool {
        self.states[node.index()].may_fault
    }

    /// Whether an integer node equals its linear form (in 64-bit integers, without wrapping) at every point of the last
    /// box.
    pub fn is_linear(&self, node: NodeId) -> bool {
        self.states[node.index()].exact
    }

    /// Bounds of the expression's value.
    pub fn root(&self) -> ValueRange {
        self.range(self.program.root)
    }

    /// Whether the expression may fault at some point of the last box.
    pub fn root_may_fault(&self) -> bool {
        self.may_fault(self.program.root)
    }

    pub(super) fn settle(&mut self, id: NodeId) {
        self.states[id.index()] = self.step(id);
    }

    pub(super) fn into_states(self) -> Vec<NodeState> {
        self.states
    }

    pub(super) fn int(&self, id: NodeId) -> IntRange {
        self.states[id.index()].value.int()
    }

    fn truth(&self, id: NodeId) -> Truth {
        self.states[id.index()].value.truth()
    }

    /// Whether two nodes depend on different indices of the box, so that all their values occur together.
    pub(super) fn independent(&self, a: NodeId, b: NodeId) -> bool {
        self.program.inputs[a.index()] & self.program.inputs[b.index()] & self.live == 0
    }

    pub(super) fn step(&mut self, id: NodeId) -> NodeState {
        let program = self.program;
        let ty = program.types[id.index()];
        let mut exact = true;
        let mut own_fault = false;
        let mut operands_fault = false;
        let value = match &program.steps[id.index()] {
            Step::Known(value) => *value,
            Step::Input(input) => self.input(*input),
            Step::Load(array, indices) => {
                operands_fault = indices.as_slice().iter().any(|i| self.states[i.index()].may_fault);
                let (value, out_of_bounds) = self.load(array, indices);
                own_fault = out_of_bounds;
                value
            }
            &Step::Unary(op, x) => {
                let state = self.states[x.index()];
                operands_fault = state.may_fault;
                match (op, state.value) {
                    (UnaryOp::Not, ValueRange::Bool(truth)) => ValueRange::Bool(truth.not()),
                    (UnaryOp::IsNan, value) => ValueRange::Bool(is_nan(value.float())),
                    (_, ValueRange::Float(range)) => ValueRange::Float(float::unary(op, range)),
                    (_, value) => {
                        let (range, no_wrap) = integer::unary(op, program.types[x.index()], value.int());
                        exact = no_wrap && state.exact;
                        ValueRange::Int(range)
                    }
                }
            }
            Step::Arithmetic { op, operands: [a, b], relation } => {
                let (left, right) = (self.states[a.index()], self.states[b.index()]);
                operands_fault = left.may_fault || right.may_fault;
                match (left.value, right.value) {
                    (ValueRange::Bool(x), ValueRange::Bool(y)) => {
                        ValueRange::Bool(combine(*op, x, y, self.independent(*a, *b)))
                    }
                    (ValueRange::Float(x), ValueRange::Float(y)) => {
                        ValueRange::Float(float::binary(*op, x, y))
                    }
                    (x, y) => {
                        let amount_ty = program.types[b.index()];
                        let independent = self.independent(*a, *b);
                        let ((plain, no_wrap), by_zero) =
                            integer::binary(*op, ty, x.int(), y.int(), amount_ty, independent);
                        own_fault = by_zero;
                        let operands_exact = left.exact && right.exact;
                        exact = no_wrap && operands_exact;
                        let form = relation.as_ref().filter(|_| operands_exact);
                        let sharper = form.and_then(|form| self.linear(form));
                        match sharper.map(|form| integer::wrap(ty, form)) {
                            Some((range, true)) => {
                                exact = true;
                                ValueRange::Int(range)
                            }
                            _ => ValueRange::Int(plain),
                        }
                    }
                }
            }
            Step::Comparison { op, operands: [a, b], relation, .. } => {
                let (left, right) = (self.states[a.index()], self.states[b.index()]);
                operands_fault = left.may_fault || right.may_fault;
                ValueRange::Bool(self.compare(*op, [*a, *b], relation.as_ref()))
            }
            &Step::Select { condition, accept, reject } => {
                let (value, may_fault) = self.select(condition, accept, reject);
                own_fault = may_fault;
                value
            }
            &Step::Cast(x) => {
                let state = self.states[x.index()];
                operands_fault = state.may_fault;
                let (value, unchanged) = cast(ty, state.value);
                exact = unchanged && state.exact;
                value
            }
            &Step::After { first, then } => {
                operands_fault = self.states[first.index()].may_fault || self.states[then.index()].may_fault;
                self.states[then.index()].value
            }
        };
        if let ValueRange::Int(range) = value {
            debug_assert!(
                range.lo <= range.hi,
                "{:?} has the empty range {range:?}",
                program.steps[id.index()]
            );
        }
        let may_fault = own_fault || operands_fault;
        // A point that proves something must not be one at which the node faults.
        let value = if may_fault { value.without_witnesses() } else { value };
        let exact = exact || !program.linear[id.index()];
        NodeState { value, may_fault, exact }
    }

    fn input(&self, input: Input) -> ValueRange {
        let span = match input {
            Input::Batch => self.index_box.b,
            Input::Head => self.index_box.h,
            Input::Query => self.index_box.q,
            Input::Key => self.index_box.kv,
            Input::Score => return ValueRange::Float(self.score),
        };
        ValueRange::Int(IntRange::every(span.first.into(), span.last.into()))
    }

    /// The range of the elements that a load may have, and whether an index may be out of bounds.
    fn load(&self, array: &Array, indices: &Indices) -> (ValueRange, bool) {
        let mut ranges = [IntRange::single(0); 4];
        let (mut seen, mut independent) = (0, true);
        let indices = indices.as_slice();
        for (range, &index) in ranges.iter_mut().zip(indices) {
            *range = self.int(index);
            let inputs = self.program.inputs[index.index()] & self.live;
            independent &= inputs & seen == 0;
            seen |= inputs;
        }
        loads::load(array, &ranges[..indices.len()], independent)
    }

    /// The range of a linear form; `None` where it says nothing.
    pub(super) fn linear(&self, form: &Linear) -> Option<IntRange> {
        let mut sum = IntRange::single(form.constant);
        let mut seen = 0;
        for &(term, factor) in &form.terms {
            let range = self.int(term);
            let (x, y) = (range.lo * factor, range.hi * factor);
            let inputs = self.program.inputs[term.index()] & self.live;
            let apart = inputs & seen == 0;
            seen |= inputs;
            sum = IntRange {
                lo: sum.lo + x.min(y),
                hi: sum.hi + x.max(y),
                attained: sum.attained && range.attained && apart,
                dense: sum.dense && apart && (x == y || range.dense && factor.abs() == 1),
            };
        }
        sum.dense &= sum.attained;
        Some(sum)
    }

    fn compare(&self, op: BinaryOp, [a, b]: [NodeId; 2], relation: Option<&Linear>) -> Truth {
        let (left, right) = (self.states[a.index()], self.states[b.index()]);
        let (x, y) = match (left.value, right.value) {
            (ValueRange::Float(x), ValueRange::Float(y)) => return float::compare(op, x, y),
            (ValueRange::Bool(x), ValueRange::Bool(y)) => (as_int(x), as_int(y)),
            (x, y) => (x.int(), y.int()),
        };
        if a == b {
            return integer::compare(op, IntRange::single(0), false);
        }
        let independent = self.independent(a, b);
        let attained = independent && x.attained && y.attained;
        let dense = independent && x.dense && y.dense;
        let mut difference = IntRange { lo: x.lo - y.hi, hi: x.hi - y.lo, attained, dense };
        if let Some(form) = relation
            && left.exact
            && right.exact
            && let Some(sharper) = self.linear(form)
        {
            difference = sharper;
        }
        integer::compare(op, difference, independent && integer::meet(x, y))
    }

    fn select(&mut self, condition: NodeId, accept: NodeId, reject: NodeId) -> (ValueRange, bool) {
        let truth = self.truth(condition);
        let condition_fault = self.states[condition.index()].may_fault;
        let (yes, no) = (self.states[accept.index()], self.states[reject.index()]);
        if !condition_fault {
            if truth.is_always(true) {
                return (yes.value, yes.may_fault);
            }
            if truth.is_always(false) {
                return (no.value, no.may_fault);
            }
        }
        let may_fault = condition_fault
            || yes.may_fault && truth.may_be(true) && self.faults_under(condition, true, accept)
            || no.may_fault && truth.may_be(false) && self.faults_under(condition, false, reject);
        let value = match (yes.value, no.value) {
            (ValueRange::Bool(x), ValueRange::Bool(y)) => ValueRange::Bool(Truth::select(
                truth,
                x,
                y,
                self.independent(condition, accept),
                self.independent(condition, reject),
            )),
            (ValueRange::Float(x), ValueRange::Float(y)) => ValueRange::Float(x.hull(y)),
            (x, y) => ValueRange::Int(x.int().hull(y.int())),
        };
        (value, may_fault)
    }
}

fn is_nan(x: FloatRange) -> Truth {
    match (x.nan, x.is_empty()) {
        (false, _) => Truth::always(false),
        (true, true) => Truth::always(true),
        (true, false) => Truth::UNKNOWN,
    }
}

fn as_int(truth: Truth) -> IntRange {
    let (lo, hi) = (i64::from(!truth.may_be(false)), i64::from(truth.may_be(true)));
    let both = lo == hi || truth.is_mixed();
    IntRange { lo, hi, attained: both, dense: both }
}

fn combine(op: BinaryOp, a: Truth, b: Truth, independent: bool) -> Truth {
    match op {
        BinaryOp::And => Truth::and(a, b, independent),
        BinaryOp::Or => Truth::or(a, b, independent),
        _ => Truth::select(a, b.not(), b, independent, independent),
    }
}

/// The range of `x as ty`, and whether an integer keeps its value.
fn cast(ty: Type, x: ValueRange) -> (ValueRange, bool) {
    match (ty, x) {
        (Type::I32 | Type::U32, ValueRange::Int(range)) => {
            let (range, unchanged) = integer::wrap(ty, range);
            (ValueRange::Int(range), unchanged)
        }
        (Type::I32 | Type::U32, ValueRange::Bool(truth)) => (ValueRange::Int(as_int(truth)), true),
        (Type::I32 | Type::U32, ValueRange::Float(range)) => {
            let convert = |v: f32| if ty == Type::I32 { i64::from(v as i32) } else { i64::from(v as u32) };
            let (mut lo, mut hi) = (convert(range.lo), convert(range.hi));
            if range.is_empty() {
                (lo, hi) = (0, 0);
            } else if range.nan {
                (lo, hi) = (lo.min(0), hi.max(0));
            }
            (ValueRange::Int(IntRange::within(lo, hi)), true)
        }
        (Type::F32, ValueRange::Int(range)) => {
            (ValueRange::Float(FloatRange::within(range.lo as f32, range.hi as f32)), true)
        }
        (_, same) => (same, true),
    }
}
