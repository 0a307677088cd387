//! What depends on where an element is by the distance `q − kv` alone: then it is the same for all pairs of positions that are
//! equally far apart, and needs to be known once a distance.

use super::affine::{AffineForms, Combination};
use super::faults::Faults;
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Type};

/// Which nodes of an expression depend on the positions by their distance alone, or not at all.
#[derive(Clone, Debug)]
pub struct Distances {
    values: Vec<bool>,
    faults: Vec<bool>,
}

/// How an integer depends on the positions: `query · q + key · kv +` something of distances, modulo 2³².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    query: i32,
    key: i32,
}

impl Sum {
    const OF_DISTANCE: Self = Self { query: 0, key: 0 };

    fn plus(self, factor: i32, other: Self) -> Self {
        Self {
            query: self.query.wrapping_add(factor.wrapping_mul(other.query)),
            key: self.key.wrapping_add(factor.wrapping_mul(other.key)),
        }
    }

    const fn is_of_distance(self) -> bool {
        self.query.wrapping_add(self.key) == 0
    }

    /// The sum that an integer is, if it is one.
    fn of_node(expr: &Expr, forms: &AffineForms, sums: &[Option<Self>], node: &Node) -> Option<Self> {
        match *node {
            Node::Input(Input::Query) => return Some(Self { query: 1, key: 0 }),
            Node::Input(Input::Key) => return Some(Self { query: 0, key: 1 }),
            _ => (),
        }
        let is_integer = |x: NodeId| expr.ty(x).is_integer();
        let constant = |x: NodeId| forms.get(x).and_then(|form| form.as_constant());
        let combination = Combination::of_node(node, constant, is_integer)?;
        combination.terms.into_iter().flatten().try_fold(Self::OF_DISTANCE, |sum, (x, factor)| {
            Some(sum.plus(factor, sums[x.index()].filter(|_| is_integer(x))?))
        })
    }
}

impl Distances {
    /// Analyses an expression. `exact_positions`: f32 holds every position, so that the difference of two positions as
    /// floats is that of the positions.
    pub fn of(expr: &Expr, exact_positions: bool) -> Self {
        let forms = AffineForms::of(expr);
        let input = |wanted| expr.ids().find(|id| *expr.node(*id) == Node::Input(wanted));
        let positions = [input(Input::Query), input(Input::Key)];
        let can_fault = Faults::of(expr);
        let mut found = Self { values: Vec::new(), faults: Vec::new() };
        let mut sums: Vec<Option<Sum>> = Vec::with_capacity(expr.nodes().len());
        for (id, node) in expr.ids().zip(expr.nodes()) {
            let (mut values, mut faults) = (true, true);
            node.for_each_operand(|x| {
                values &= found.values[x.index()];
                faults &= found.faults[x.index()];
            });
            // An operation faults by its operands' values, and a select evaluates by its condition's. Sums forget what cancels
            // out, but evaluating it may still fault.
            let goes_by_values =
                can_fault.own(id) || matches!(node, Node::Select { .. } | Node::After { .. });
            faults &= values || !(goes_by_values && can_fault.any(id));
            values &= !matches!(node, Node::Input(Input::Query | Input::Key | Input::Score));
            if let Some(form) = forms.get(id) {
                let coefficient = |input: Option<NodeId>| input.map_or(0, |x| form.coefficient(x));
                let mut others = form.terms().iter().filter(|(atom, _)| !positions.contains(&Some(*atom)));
                values |= coefficient(positions[0]).wrapping_add(coefficient(positions[1])) == 0
                    && others.all(|(atom, _)| *atom != id && found.values[atom.index()]);
            }
            let sum = if values { Some(Sum::OF_DISTANCE) } else { Sum::of_node(expr, &forms, &sums, node) };
            values |= sum.is_some_and(Sum::is_of_distance) || exact_positions && is_real_distance(expr, node);
            sums.push(if values { Some(Sum::OF_DISTANCE) } else { sum });
            found.values.push(values);
            found.faults.push(faults);
        }
        found
    }

    /// Whether the value of a node, where it has one, is the same for all positions that are equally far apart.
    pub fn has_value_of_distance(&self, id: NodeId) -> bool {
        self.values[id.index()]
    }

    /// Whether that holds of the value and of whether there is a fault.
    pub fn is_of_distance(&self, id: NodeId) -> bool {
        self.values[id.index()] && self.faults[id.index()]
    }
}

/// Whether a node is the difference of a query's position and a key's, each as f32.
fn is_real_distance(expr: &Expr, node: &Node) -> bool {
    let position = |id: NodeId| match *expr.node(id) {
        Node::Cast(Type::F32, x) => match *expr.node(x) {
            Node::Input(input @ (Input::Query | Input::Key)) => Some(input),
            _ => None,
        },
        _ => None,
    };
    match *node {
        Node::Binary(BinaryOp::Sub, a, b) => match (position(a), position(b)) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use BinaryOp::*;
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::{Interpreter, Point};
    use crate::ir::{Builder, CaptureId, UnaryOp};
    use crate::mods::BoundExpr;
    use crate::testing::{self, ExprConfig};

    /// `q`, `kv` and `h`, a table of integers, and what is built of them.
    struct Parts {
        b: Builder,
        q: NodeId,
        kv: NodeId,
        h: NodeId,
        table: CaptureId,
    }

    impl Parts {
        fn op(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> NodeId {
            self.b.binary(op, x, y)
        }

        fn load(&mut self, index: NodeId) -> NodeId {
            self.b.load(self.table, &[index])
        }
    }

    fn distances(exact_positions: bool, build: impl FnOnce(&mut Parts) -> NodeId) -> (Distances, NodeId) {
        let mut b = Builder::new();
        let table = b.declare("table", Type::I32, 1);
        let [q, kv, h] = [Input::Query, Input::Key, Input::Head].map(|input| b.input(input));
        let mut parts = Parts { b, q, kv, h, table };
        let root = build(&mut parts);
        let expr = parts.b.finish(root).unwrap();
        (Distances::of(&expr, exact_positions), expr.root())
    }

    fn is_of_distance(exact_positions: bool, build: impl FnOnce(&mut Parts) -> NodeId) -> bool {
        let (distances, root) = distances(exact_positions, build);
        distances.is_of_distance(root)
    }

    #[test]
    fn sums_in_which_the_positions_come_as_their_difference() {
        type Build = fn(&mut Parts) -> NodeId;
        let of_distance: [(&str, Build); 6] = [
            ("q + (h - kv)", |p| {
                let rest = p.op(Sub, p.h, p.kv);
                p.op(Add, p.q, rest)
            }),
            ("table[kv + (table[h] - q)]", |p| {
                let base = p.load(p.h);
                let rest = p.op(Sub, base, p.q);
                let index = p.op(Add, p.kv, rest);
                p.load(index)
            }),
            ("3 q - kv 3", |p| {
                let three = p.b.constant(3i32);
                let (a, b) = (p.op(Mul, three, p.q), p.op(Mul, p.kv, three));
                p.op(Sub, a, b)
            }),
            ("!kv + q", |p| {
                let not = p.b.unary(UnaryOp::Not, p.kv);
                p.op(Add, not, p.q)
            }),
            ("(q << 1) - kv - kv", |p| {
                let one = p.b.constant(1i32);
                let twice = p.op(Shl, p.q, one);
                let rest = p.op(Sub, twice, p.kv);
                p.op(Sub, rest, p.kv)
            }),
            ("table[h]", |p| p.load(p.h)),
        ];
        for (what, build) in of_distance {
            assert!(is_of_distance(false, build), "{what}");
        }
        let others: [(&str, Build); 5] = [
            ("kv", |p| p.kv),
            ("q + kv", |p| p.op(Add, p.q, p.kv)),
            ("q + q - kv", |p| {
                let twice = p.op(Add, p.q, p.q);
                p.op(Sub, twice, p.kv)
            }),
            ("table[q] - kv", |p| {
                let base = p.load(p.q);
                p.op(Sub, base, p.kv)
            }),
            ("h q - kv", |p| {
                let product = p.op(Mul, p.h, p.q);
                p.op(Sub, product, p.kv)
            }),
        ];
        for (what, build) in others {
            assert!(!is_of_distance(false, build), "{what}");
        }
    }

    #[test]
    fn sums_may_have_any_number_of_terms() {
        assert!(is_of_distance(false, |p| {
            let mut sum = p.op(Sub, p.h, p.kv);
            for divisor in 3..23 {
                let divisor = p.b.constant(divisor);
                let term = p.op(Div, p.h, divisor);
                sum = p.op(Add, sum, term);
            }
            p.op(Add, sum, p.q)
        }));
    }

    #[test]
    fn positions_as_floats_count_where_they_are_exact() {
        let between = |op: BinaryOp| {
            move |p: &mut Parts| {
                let (q, kv) = (p.b.cast(Type::F32, p.q), p.b.cast(Type::F32, p.kv));
                let between = p.op(op, kv, q);
                p.b.unary(UnaryOp::Abs, between)
            }
        };
        assert!(is_of_distance(true, between(Sub)));
        assert!(!is_of_distance(false, between(Sub)));
        assert!(!is_of_distance(true, between(Add)));
    }

    #[test]
    fn what_cancels_out_may_still_fault() {
        let (distances, root) = distances(false, |p| {
            let load = p.load(p.q);
            p.op(Sub, load, load)
        });
        assert!(distances.has_value_of_distance(root));
        assert!(!distances.is_of_distance(root));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

        #[test]
        fn values_and_faults_are_those_of_the_distance(
            bound in testing::expressions(ExprConfig { result: Type::F32, ..ExprConfig::mask() }),
            at in testing::points(),
            shift in -40..40i32,
        ) {
            let expr = bound.expr();
            let distances = Distances::of(expr, false);
            for id in expr.ids().filter(|id| distances.is_of_distance(*id)) {
                let part = BoundExpr::new("part", expr.rooted_at(id), bound.captures().to_vec()).unwrap();
                let shifted = Point { q: at.q.wrapping_add(shift), kv: at.kv.wrapping_add(shift), ..at };
                let here = Interpreter::<f32>::new(&part).evaluate(at, 0.0);
                let there = Interpreter::<f32>::new(&part).evaluate(shifted, 0.0);
                match (here, there) {
                    (Ok(here), Ok(there)) => prop_assert_eq!(format!("{here:?}"), format!("{there:?}")),
                    (here, there) => prop_assert_eq!(here.is_err(), there.is_err()),
                }
            }
        }
    }
}
