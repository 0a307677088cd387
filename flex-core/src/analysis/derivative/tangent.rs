//! The rules of differentiation, one operation at a time.

use std::f32::consts::LN_2;

use crate::ir::{BinaryOp, Builder, Expr, Node, NodeId, Type, UnaryOp};

/// Carries a tangent from one node to the root. A tangent of `None` is 0 everywhere and leaves no nodes behind.
pub(super) struct Tangents<'a> {
    /// Begins with the nodes of the expression, under their ids.
    builder: &'a mut Builder,
    expr: &'a Expr,
}

impl<'a> Tangents<'a> {
    pub(super) fn new(builder: &'a mut Builder, expr: &'a Expr) -> Self {
        Self { builder, expr }
    }

    /// The derivative of the root by an f32 node.
    pub(super) fn of_root(&mut self, seed: NodeId) -> Option<NodeId> {
        let mut tangents: Vec<Option<NodeId>> = vec![None; self.expr.nodes().len()];
        tangents[seed.index()] = Some(self.builder.constant(1.0f32));
        for id in self.expr.ids().skip(seed.index() + 1).filter(|&id| self.expr.ty(id) == Type::F32) {
            tangents[id.index()] = self.of_node(id, &tangents);
        }
        tangents[self.expr.root().index()]
    }

    fn of_node(&mut self, id: NodeId, tangents: &[Option<NodeId>]) -> Option<NodeId> {
        let tangent = |x: NodeId| tangents[x.index()];
        match *self.expr.node(id) {
            Node::Unary(op, x) => self.unary(op, id, x, tangent(x)?),
            Node::Binary(op, a, b) => self.binary(op, id, (a, tangent(a)), (b, tangent(b))),
            Node::Select { condition, accept, reject } => {
                let (yes, no) = (tangent(accept), tangent(reject));
                self.either(condition, yes, no)
            }
            Node::After { then, .. } => tangent(then),
            Node::Const(_)
            | Node::Input(_)
            | Node::Capture(_)
            | Node::Extent(..)
            | Node::Load(..)
            | Node::Cast(..) => None,
        }
    }

    /// dx times the derivative of `value = op x`.
    fn unary(&mut self, op: UnaryOp, value: NodeId, x: NodeId, dx: NodeId) -> Option<NodeId> {
        use BinaryOp::{Div, Gt, Lt, Mul, Sub};
        use UnaryOp::*;
        Some(match op {
            Neg => self.neg(dx),
            Abs => {
                let zero = self.real(0.0);
                let (above, below) = (self.op(Gt, x, zero), self.op(Lt, x, zero));
                let falling = self.neg(dx);
                let not_above = self.builder.select(below, falling, zero);
                self.builder.select(above, dx, not_above)
            }
            Sqrt => {
                let two = self.real(2.0);
                let double = self.op(Mul, value, two);
                self.op(Div, dx, double)
            }
            Exp => self.op(Mul, dx, value),
            Exp2 => {
                let ln_2 = self.real(LN_2);
                let slope = self.op(Mul, value, ln_2);
                self.op(Mul, dx, slope)
            }
            Ln => self.op(Div, dx, x),
            Log2 => {
                let ln_2 = self.real(LN_2);
                let scaled = self.op(Mul, x, ln_2);
                self.op(Div, dx, scaled)
            }
            Sin => {
                let slope = self.builder.unary(Cos, x);
                self.op(Mul, dx, slope)
            }
            Cos => {
                let sin = self.builder.unary(Sin, x);
                let slope = self.neg(sin);
                self.op(Mul, dx, slope)
            }
            Tanh => {
                let (one, square) = (self.real(1.0), self.op(Mul, value, value));
                let slope = self.op(Sub, one, square);
                self.op(Mul, dx, slope)
            }
            Signum | Floor | Ceil | Round | Trunc => return None,
            Not | IsNan | CountOnes | LeadingZeros | TrailingZeros => return None,
        })
    }

    /// The tangent of `value = a op b`.
    fn binary(
        &mut self,
        op: BinaryOp,
        value: NodeId,
        (a, da): (NodeId, Option<NodeId>),
        (b, db): (NodeId, Option<NodeId>),
    ) -> Option<NodeId> {
        use BinaryOp::*;
        da.or(db)?;
        match op {
            Add => self.sum(da, db),
            Sub => {
                let db = db.map(|db| self.neg(db));
                self.sum(da, db)
            }
            Mul => {
                let left = da.map(|da| self.op(Mul, da, b));
                let right = db.map(|db| self.op(Mul, a, db));
                self.sum(left, right)
            }
            Div => {
                let left = da.map(|da| self.op(Div, da, b));
                let right = db.map(|db| {
                    let slope = self.op(Div, value, b);
                    let falling = self.op(Mul, db, slope);
                    self.neg(falling)
                });
                self.sum(left, right)
            }
            Rem => {
                let right = db.map(|db| {
                    let ratio = self.op(Div, a, b);
                    let whole = self.builder.unary(UnaryOp::Trunc, ratio);
                    let falling = self.op(Mul, db, whole);
                    self.neg(falling)
                });
                self.sum(da, right)
            }
            Min => self.extremum(Lt, (a, da), (b, db)),
            Max => self.extremum(Gt, (a, da), (b, db)),
            Pow => {
                let left = da.and_then(|da| self.power_by_base(a, b, da));
                let right = db.map(|db| self.power_by_exponent(value, a, b, db));
                self.sum(left, right)
            }
            DivEuclid | RemEuclid | And | Or | Xor | Shl | Shr | Eq | Ne | Lt | Le | Gt | Ge => None,
        }
    }

    /// Of `min` (`wins` is `<`) or `max` (`>`).
    fn extremum(
        &mut self,
        wins: BinaryOp,
        (a, da): (NodeId, Option<NodeId>),
        (b, db): (NodeId, Option<NodeId>),
    ) -> Option<NodeId> {
        let (wins, no_rival) = (self.op(wins, a, b), self.builder.unary(UnaryOp::IsNan, b));
        let first = self.op(BinaryOp::Or, wins, no_rival);
        let chosen = self.either(first, da, db);
        let half = self.real(0.5);
        let shared = self.sum(da, db).map(|sum| self.op(BinaryOp::Mul, sum, half));
        let equal = self.op(BinaryOp::Eq, a, b);
        self.either(equal, shared, chosen)
    }

    fn power_by_base(&mut self, a: NodeId, b: NodeId, da: NodeId) -> Option<NodeId> {
        let constant = self.builder.as_const(b).and_then(crate::ir::Scalar::as_f32);
        let (zero, one) = (self.real(0.0), self.real(1.0));
        let slope = match constant {
            Some(0.0) => return None,
            Some(1.0) => return Some(da),
            Some(2.0) => self.op(BinaryOp::Mul, b, a),
            _ => {
                let less = self.op(BinaryOp::Sub, b, one);
                let power = self.op(BinaryOp::Pow, a, less);
                self.op(BinaryOp::Mul, b, power)
            }
        };
        let rise = self.op(BinaryOp::Mul, da, slope);
        if constant.is_some() {
            return Some(rise);
        }
        let flat = self.op(BinaryOp::Eq, b, zero);
        Some(self.builder.select(flat, zero, rise))
    }

    fn power_by_exponent(&mut self, value: NodeId, a: NodeId, b: NodeId, db: NodeId) -> NodeId {
        let zero = self.real(0.0);
        let (is_zero, grows) = (self.op(BinaryOp::Eq, a, zero), self.op(BinaryOp::Ge, b, zero));
        let flat = self.op(BinaryOp::And, is_zero, grows);
        let log = self.builder.unary(UnaryOp::Ln, a);
        let slope = self.op(BinaryOp::Mul, value, log);
        let rise = self.op(BinaryOp::Mul, db, slope);
        self.builder.select(flat, zero, rise)
    }

    fn either(&mut self, condition: NodeId, yes: Option<NodeId>, no: Option<NodeId>) -> Option<NodeId> {
        yes.or(no)?;
        let zero = self.real(0.0);
        Some(self.builder.select(condition, yes.unwrap_or(zero), no.unwrap_or(zero)))
    }

    fn sum(&mut self, a: Option<NodeId>, b: Option<NodeId>) -> Option<NodeId> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.op(BinaryOp::Add, a, b)),
            (one, other) => one.or(other),
        }
    }

    fn neg(&mut self, x: NodeId) -> NodeId {
        self.builder.unary(UnaryOp::Neg, x)
    }

    fn op(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        self.builder.binary(op, a, b)
    }

    fn real(&mut self, value: f32) -> NodeId {
        self.builder.constant(value)
    }
}
