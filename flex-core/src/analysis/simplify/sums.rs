//! One normal form for integer sums: equal linear forms become one node, and what cancels disappears.
//!
//! Only for sums that cannot fault, because a form does not know the order of its atoms' evaluation.

use super::graph::Graph;
use crate::analysis::affine::Affine;
use crate::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};

pub(super) fn sum(g: &mut Graph, node: Node) -> Option<NodeId> {
    let ty = match node {
        Node::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Shl, a, _) => g.ty(a),
        Node::Unary(UnaryOp::Neg | UnaryOp::Not, x) => g.ty(x),
        Node::Cast(ty, x) if g.ty(x).is_integer() => ty,
        _ => return None,
    };
    let mut faults = false;
    node.for_each_operand(|x| faults |= g.can_fault(x));
    if !ty.is_integer() || faults {
        return None;
    }
    let id = g.next_id();
    let form_of = |x| g.form(x).expect("operands of integer sums are integers");
    let form = Affine::of_node(id, &node, form_of, |x| g.form(x).is_some());
    if form == Affine::atom(id) { None } else { Some(build(g, ty, &form)) }
}

/// `a == b` or `a != b` of integers: atoms on both sides cancel.
pub(super) fn equality(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    if g.can_fault(a) || g.can_fault(b) {
        return None;
    }
    let ty = g.ty(a);
    let (left, right) = (g.form(a)?, g.form(b)?);
    let difference = left.plus(-1, right);
    if let Some(constant) = difference.as_constant() {
        return Some(g.constant((constant == 0) == (op == BinaryOp::Eq)));
    }
    if difference.terms().len() == left.terms().len() + right.terms().len() {
        return None;
    }
    let (mut left, mut right) = (Affine::constant_form(0), Affine::constant_form(0));
    for &(x, c) in difference.terms() {
        if is_negative(c) {
            right = right.plus(c.wrapping_neg(), &Affine::atom(x));
        } else {
            left = left.plus(c, &Affine::atom(x));
        }
    }
    right = right.plus(-1, &Affine::constant_form(difference.constant()));
    if left.terms().is_empty() {
        // −x = c ⇔ x = −c
        (left, right) = (right.plus(1, &Affine::constant_form(difference.constant())), left);
        right = right.plus(1, &Affine::constant_form(difference.constant()));
    }
    let (left, right) = (build(g, ty, &left), build(g, ty, &right));
    Some(g.binary(op, left, right))
}

/// −2³¹ is its own negative, so it counts as positive.
fn is_negative(c: i32) -> bool {
    c < 0 && c != i32::MIN
}

/// The normal form of a sum: g·(positive terms − negative terms) + constant, with g the common factor.
fn build(g: &mut Graph, ty: Type, form: &Affine) -> NodeId {
    let Some(&(first, _)) = form.terms().first() else { return integer(g, ty, form.constant()) };
    // Atoms are of both integer types; the sum is made in the type of the first.
    let work = g.ty(first);
    let factor = common_factor(form);
    let mut constant = form.constant();
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for &(x, c) in form.terms() {
        let x = g.keep(Node::Cast(work, x));
        let c = c / factor;
        if is_negative(c) { negative.push((x, c.wrapping_neg())) } else { positive.push((x, c)) }
    }
    let mut negative = negative.into_iter();
    let mut positive = positive.into_iter();
    let mut sum = match positive.next() {
        Some((x, c)) => product(g, work, x, c),
        None => {
            let (x, c) = negative.next().expect("there is a term");
            let alone = negative.len() == 0;
            if alone && (c, factor, constant) == (1, 1, -1) {
                constant = 0;
                g.keep(Node::Unary(UnaryOp::Not, x))
            } else {
                let x = product(g, work, x, c);
                let from = if factor == 1 { std::mem::take(&mut constant) } else { 0 };
                if from == 0 && work == Type::I32 {
                    g.keep(Node::Unary(UnaryOp::Neg, x))
                } else {
                    let from = integer(g, work, from);
                    g.keep(Node::Binary(BinaryOp::Sub, from, x))
                }
            }
        }
    };
    for (op, terms) in [(BinaryOp::Add, positive), (BinaryOp::Sub, negative)] {
        for (x, c) in terms {
            let x = product(g, work, x, c);
            sum = g.keep(Node::Binary(op, sum, x));
        }
    }
    sum = product(g, work, sum, factor);
    if constant != 0 {
        let constant = integer(g, work, constant);
        sum = g.keep(Node::Binary(BinaryOp::Add, sum, constant));
    }
    g.keep(Node::Cast(ty, sum))
}

fn integer(g: &mut Graph, ty: Type, value: i32) -> NodeId {
    g.constant(if ty == Type::I32 { Scalar::I32(value) } else { Scalar::U32(value as u32) })
}

fn product(g: &mut Graph, ty: Type, x: NodeId, factor: i32) -> NodeId {
    if factor == 1 {
        return x;
    }
    let factor = integer(g, ty, factor);
    g.keep(Node::Binary(BinaryOp::Mul, x, factor))
}

/// The greatest common divisor of the coefficients of two or more terms.
fn common_factor(form: &Affine) -> i32 {
    if form.terms().len() < 2 {
        return 1;
    }
    let divisor = form.terms().iter().fold(0u32, |divisor, term| {
        let (mut a, mut b) = (divisor, term.1.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    });
    i32::try_from(divisor).unwrap_or(1)
}
