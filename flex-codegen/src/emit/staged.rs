//! Terms that many elements of a tile share and that cost a load: what depends on the key alone, and what depends on the
//! distance `q − kv` alone.
//!
//! A tile has M · N elements, but N keys and M + N − 1 distances. Where everything is proved, kernels may compute such terms
//! once a tile and keep them in shared memory. A function of the distance has the same value for all pairs of positions at
//! that distance, so it is computed at `q = distance, kv = 0`.

use std::fmt::Write;

use flex_core::ir::{BinaryOp, Expr, Input, Node, NodeId, Type, UnaryOp};

use super::code::{Guarding, ModCode};
use super::length::instructions_of;
use super::mods::SIGNATURE;
use super::scope::{Scope, field_type};
use super::variance::Level;

/// From so many instructions on, a term is worth staging though it loads nothing.
const LONG_TERM: u32 = 24;

/// The nodes of a mod that are staged: each is a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StagedNodes {
    /// Of the key alone.
    pub(super) of_keys: Vec<NodeId>,
    /// Of the distance alone.
    pub(super) of_distances: Vec<NodeId>,
}

impl StagedNodes {
    /// What is worth staging of a mod.
    pub(super) fn of(code: &ModCode<'_>) -> Self {
        if code.guarding != Guarding::None {
            return Self::default();
        }
        let expr = code.expr;
        let of_distance = of_distance(expr);
        // Bottom up: whether a load is among what is computed for each key or distance, and how long that takes.
        let mut cost = vec![(false, 0u32); expr.nodes().len()];
        for id in expr.ids() {
            let is_shared_by_many = |id: NodeId| code.level(id) == Level::Column || of_distance[id.index()];
            if !is_shared_by_many(id) {
                continue;
            }
            let mut here = (matches!(expr.node(id), Node::Load(..)), instructions_of(code, id));
            expr.node(id).for_each_operand(|operand| {
                let (loads, instructions) = cost[operand.index()];
                here = (here.0 | loads, here.1.saturating_add(instructions));
            });
            cost[id.index()] = here;
        }
        let is_worth_it = |id: NodeId| {
            let (loads, instructions) = cost[id.index()];
            loads || instructions >= LONG_TERM
        };
        // Top down: what the code of elements reads.
        let mut staged = Self::default();
        let mut wanted = vec![false; expr.nodes().len()];
        wanted[expr.root().index()] = true;
        for id in expr.ids().rev().filter(|id| id.index() <= expr.root().index()) {
            if !wanted[id.index()] {
                continue;
            }
            if of_distance[id.index()] && is_worth_it(id) {
                staged.of_distances.push(id);
            } else if code.level(id) == Level::Column && is_worth_it(id) {
                staged.of_keys.push(id);
            } else if code.level(id) == Level::Element {
                code.for_each_operand(id, |operand| wanted[operand.index()] = true);
            }
        }
        staged.of_distances.reverse();
        staged.of_keys.reverse();
        staged
    }

    /// Whether a node is staged.
    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.of_keys.contains(&id) || self.of_distances.contains(&id)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.of_keys.is_empty() && self.of_distances.is_empty()
    }
}

/// How an integer depends on the positions: `query · q + key · kv + what depends on neither`, modulo 2³².
type Sum = Option<(i8, i8)>;

/// Which nodes depend on the positions by `q − kv` alone, and on no score.
fn of_distance(expr: &Expr) -> Vec<bool> {
    let mut sums: Vec<Sum> = Vec::with_capacity(expr.nodes().len());
    let mut found: Vec<bool> = Vec::with_capacity(expr.nodes().len());
    // Of the head at most.
    let mut is_fixed: Vec<bool> = Vec::with_capacity(expr.nodes().len());
    for (id, node) in expr.ids().zip(expr.nodes()) {
        let mut fixed = !matches!(node, Node::Input(Input::Query | Input::Key | Input::Score));
        let mut of_distance_or_fixed = fixed;
        node.for_each_operand(|operand| {
            fixed &= is_fixed[operand.index()];
            of_distance_or_fixed &= is_fixed[operand.index()] || found[operand.index()];
        });
        let sum = |operand: NodeId| sums[operand.index()];
        let add = |a: Sum, b: Sum| Some((a?.0.checked_add(b?.0)?, a?.1.checked_add(b?.1)?));
        let negative = |a: Sum| a.map(|(query, key)| (-query, -key));
        let here = match *node {
            Node::Input(Input::Query) => Some((1, 0)),
            Node::Input(Input::Key) => Some((0, 1)),
            _ if fixed && expr.ty(id) == Type::I32 => Some((0, 0)),
            Node::Binary(BinaryOp::Add, a, b) => add(sum(a), sum(b)),
            Node::Binary(BinaryOp::Sub, a, b) => add(sum(a), negative(sum(b))),
            Node::Unary(UnaryOp::Neg, a) => negative(sum(a)),
            // Positions that f32 holds exactly, as it does their difference.
            Node::Cast(Type::F32, x) if matches!(expr.node(x), Node::Input(Input::Query | Input::Key)) => sum(x),
            _ => None,
        };
        let is_distance = matches!(here, Some((1, -1) | (-1, 1)));
        found.push(is_distance || !fixed && of_distance_or_fixed);
        is_fixed.push(fixed);
        sums.push(here.filter(|_| expr.ty(id) == Type::I32 || is_position(expr, id)));
    }
    found
}

fn is_position(expr: &Expr, id: NodeId) -> bool {
    matches!(*expr.node(id), Node::Cast(Type::F32, x) if matches!(expr.node(x), Node::Input(Input::Query | Input::Key)))
}

/// The words of shared memory that mods want staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StagedTerms {
    /// For each key of a tile.
    pub of_keys: u32,
    /// For each distance `q − kv` that there is in a tile.
    pub of_distances: u32,
}

impl StagedTerms {
    /// Whether consumers have registers for them: four columns' at a time.
    pub(super) fn fit_registers(self) -> bool {
        self.of_keys <= 4 && self.of_distances <= 2
    }

    /// Whether there are any.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// How the generated code names the terms of keys or of distances.
pub(super) struct TermNames {
    ty: &'static str,
    pub(super) variable: &'static str,
    function: &'static str,
    position: &'static str,
}

pub(super) const KEY_TERMS: TermNames =
    TermNames { ty: "KeyTerms", variable: "key", function: "key_terms", position: "kv" };
pub(super) const DISTANCE_TERMS: TermNames = TermNames {
    ty: "DistanceTerms",
    variable: "distance",
    function: "distance_terms",
    position: "distance",
};

impl TermNames {
    fn is_of_distances(&self) -> bool {
        self.position == DISTANCE_TERMS.position
    }

    fn nodes<'a>(&self, code: &'a ModCode<'_>) -> &'a [NodeId] {
        if self.is_of_distances() { &code.staged.of_distances } else { &code.staged.of_keys }
    }

    /// The struct: a word a term.
    pub(super) fn declaration<'a>(&self, codes: impl Iterator<Item = &'a ModCode<'a>>) -> String {
        let mut fields = String::new();
        for code in codes {
            for &id in self.nodes(code) {
                let ty = if code.expr.ty(id) == Type::Bool { "unsigned" } else { field_type(code, id) };
                writeln!(fields, "        {ty} {};", code.name(id)).expect("writing to a string");
            }
        }
        match fields.is_empty() {
            true => format!("\n    struct {} {{}};\n", self.ty),
            false => format!("\n    struct {} {{\n{fields}    }};\n", self.ty),
        }
    }

    /// The function that computes them.
    pub(super) fn function<'a>(&self, codes: impl Iterator<Item = &'a ModCode<'a>>) -> String {
        let Self { ty, function, position, .. } = self;
        let mut out = format!(
            "\n    static __device__ __forceinline__ {ty} {function}({SIGNATURE}, int b, int h, int {position}) {{\n        \
             {ty} terms{{}};\n"
        );
        for code in codes {
            let ids = self.nodes(code);
            let plain = code.without_places();
            let mut scope = if self.is_of_distances() { Scope::of_distances(&plain) } else { Scope::new(&plain) };
            scope.compute(ids);
            for &id in ids {
                let value = scope.value(id).text.clone();
                scope.line(&format!("terms.{} = {value};", code.name(id)));
            }
            out += &scope.into_lines();
        }
        out + "        return terms;\n    }\n"
    }
}
