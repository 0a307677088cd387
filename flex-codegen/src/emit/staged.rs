//! Terms that many elements of a tile share and that cost a load: what depends on the key alone, and what depends on the
//! distance `q − kv` alone.
//!
//! A tile has M · N elements, but N keys and M + N − 1 distances. Where everything is proved, kernels may compute such terms
//! once a tile and keep them in shared memory. A function of the distance has the same value for all pairs of positions at
//! that distance, so it is computed at `q = distance, kv = 0`.

use std::fmt::{self, Write};

use flex_core::analysis::distance::Distances;
use flex_core::ir::{Node, NodeId, Type};

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
    /// What is worth staging of a mod. `simple_distances`: also distances whose loads share addresses anyway.
    pub(super) fn of(code: &ModCode<'_>, simple_distances: bool) -> Self {
        if code.guarding == Guarding::None {
            Self::find(code, LONG_TERM, simple_distances)
        } else {
            Self::default()
        }
    }

    /// The terms that load something or take so many instructions. What must be proved of loads is left to the caller.
    pub(super) fn find(code: &ModCode<'_>, long: u32, simple_distances: bool) -> Self {
        let expr = code.expr;
        // Where all is proved, f32 holds every position. What may fault elsewhere than at its distance would read there.
        let distances = Distances::of(expr, code.guarding == Guarding::None);
        let is_of_distance = |id: NodeId| code.level(id) == Level::Element && distances.is_of_distance(id);
        let of_distance: Vec<bool> = expr.ids().map(is_of_distance).collect();
        // Bottom up, of what is computed for each key or distance.
        let mut costs = vec![Cost::default(); expr.nodes().len()];
        for id in expr.ids() {
            if code.level(id) != Level::Column && !of_distance[id.index()] {
                continue;
            }
            let is_load = matches!(expr.node(id), Node::Load(..));
            let mut cost = Cost {
                loads: is_load,
                loads_by_address: is_load && code.position_sum(id).is_none(),
                instructions: instructions_of(code, id),
            };
            expr.node(id).for_each_operand(|operand| cost.add(costs[operand.index()]));
            costs[id.index()] = cost;
        }
        let is_worth_it = |id: NodeId| {
            let Cost { loads, loads_by_address, instructions } = costs[id.index()];
            let loads = if of_distance[id.index()] && !simple_distances { loads_by_address } else { loads };
            loads || instructions >= long
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

    /// Those of keys.
    pub(super) fn keys_only(&self) -> Self {
        Self { of_keys: self.of_keys.clone(), of_distances: Vec::new() }
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

/// What a term takes.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    loads: bool,
    /// Something is loaded whose address no other elements share.
    loads_by_address: bool,
    instructions: u32,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.loads |= other.loads;
        self.loads_by_address |= other.loads_by_address;
        self.instructions = self.instructions.saturating_add(other.instructions);
    }
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
    /// Whether there are any.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl fmt::Display for StagedTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of keys and {} of distances", self.of_keys, self.of_distances)
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
pub(super) const DISTANCE_TERMS: TermNames =
    TermNames { ty: "DistanceTerms", variable: "distance", function: "distance_terms", position: "distance" };

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
            let mut scope =
                if self.is_of_distances() { Scope::of_distances(&plain) } else { Scope::new(&plain) };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use BinaryOp::*;
    use flex_core::attention::DType;
    use flex_core::ir::{BinaryOp, Builder, CaptureId, Input};

    use super::*;
    use crate::plan::HOPPER;
    use crate::{Arch, Guards, KernelSpec, Snippet};

    /// What mods are built of: inputs, `q − kv`, a table of f32, a number, and an integer for each row.
    struct Mod {
        b: Builder,
        score: NodeId,
        batch: NodeId,
        q: NodeId,
        kv: NodeId,
        distance: NodeId,
        reach: NodeId,
        table: CaptureId,
        rows: CaptureId,
    }

    impl Mod {
        fn new() -> Self {
            let mut b = Builder::new();
            let table = b.declare("table", Type::F32, 1);
            let reach = b.declare("reach", Type::I32, 0);
            let rows = b.declare("rows", Type::I32, 1);
            let [score, batch, q, kv] =
                [Input::Score, Input::Batch, Input::Query, Input::Key].map(|input| b.input(input));
            let distance = b.binary(Sub, q, kv);
            let reach = b.capture(reach);
            Self { b, score, batch, q, kv, distance, reach, table, rows }
        }

        fn binary(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> NodeId {
            self.b.binary(op, x, y)
        }

        fn load(&mut self, index: NodeId) -> NodeId {
            self.b.load(self.table, &[index])
        }

        fn row(&mut self, index: NodeId) -> NodeId {
            self.b.load(self.rows, &[index])
        }

        /// `score + x`.
        fn plus(&mut self, x: NodeId) -> NodeId {
            let x = self.b.cast(Type::F32, x);
            self.b.binary(Add, self.score, x)
        }
    }

    fn spec(build: impl Fn(&mut Mod) -> NodeId) -> KernelSpec {
        let mut parts = Mod::new();
        let root = build(&mut parts);
        let expr = parts.b.finish(root).unwrap();
        let base = KernelSpec::new(Arch::of_device(9, 0), HOPPER[1].schedule, DType::BF16, 128, 128);
        let base = KernelSpec { guards: Guards::Proved, stages_terms: true, ..base };
        match expr.result_type() {
            Type::Bool => KernelSpec { mask: Some(Arc::new(expr)), ..base },
            _ => KernelSpec { score: Some(Arc::new(expr)), ..base },
        }
    }

    /// How many terms of keys, and of distances, are staged.
    fn staged(build: impl Fn(&mut Mod) -> NodeId) -> [u32; 2] {
        let terms = Snippet::of(&spec(build)).unwrap().staged;
        [terms.of_keys, terms.of_distances]
    }

    /// The same of `score + table[index]`.
    fn staged_at(index: impl Fn(&mut Mod) -> NodeId) -> [u32; 2] {
        staged(|m| {
            let index = index(m);
            let value = m.load(index);
            m.plus(value)
        })
    }

    #[test]
    fn loads_by_key_and_by_distance_are_staged_whatever_the_index_looks_like() {
        assert_eq!(staged_at(|m| m.binary(Add, m.kv, m.reach)), [1, 0]);
        let other_order = |m: &mut Mod| {
            let rest = m.binary(Sub, m.reach, m.kv);
            m.binary(Add, m.q, rest)
        };
        assert_eq!(staged_at(other_order), [0, 1]);
        let clamped = |m: &mut Mod| {
            let zero = m.b.constant(0i32);
            let least = m.binary(Max, m.distance, zero);
            m.binary(Min, least, m.reach)
        };
        assert_eq!(staged_at(clamped), [0, 1]);
        let from_a_base_of_the_batch = |m: &mut Mod| {
            let base = m.row(m.batch);
            m.binary(Sub, base, m.distance)
        };
        assert_eq!(staged_at(from_a_base_of_the_batch), [0, 1]);
        let of_both = |m: &mut Mod| {
            let (by_distance, by_key) = (m.load(m.distance), m.load(m.kv));
            let square = m.binary(Mul, by_distance, by_distance);
            let product = m.binary(Mul, square, by_key);
            m.plus(product)
        };
        assert_eq!(staged(of_both), [1, 1], "the square is one term");
        let mask = |m: &mut Mod| {
            let (mine, its) = (m.row(m.q), m.row(m.kv));
            m.binary(Eq, mine, its)
        };
        assert_eq!(staged(mask), [1, 0], "only of the key");
    }

    #[test]
    fn other_loads_are_left_alone() {
        assert_eq!(staged_at(|m| m.binary(Add, m.q, m.kv)), [0, 0], "q + kv");
        assert_eq!(staged_at(|m| m.binary(Add, m.q, m.distance)), [0, 0], "2 q - kv");
        assert_eq!(staged_at(|m| m.binary(Add, m.q, m.reach)), [0, 0], "of the row");
        let from_a_base_of_the_row = |m: &mut Mod| {
            let base = m.row(m.q);
            m.binary(Sub, base, m.kv)
        };
        assert_eq!(staged_at(from_a_base_of_the_row), [0, 0]);

        let by_key = || {
            spec(|m| {
                let value = m.load(m.kv);
                m.plus(value)
            })
        };
        let any = |spec: KernelSpec| Snippet::of(&spec).unwrap().staged.any();
        assert!(any(by_key()));
        assert!(!any(KernelSpec { guards: Guards::Guarded, ..by_key() }), "not proved in bounds");
        assert!(!any(KernelSpec { stages_terms: false, ..by_key() }), "not asked for");
    }

    #[test]
    fn terms_that_take_long_are_staged_without_a_load() {
        let of = |op, term: fn(&Mod) -> NodeId| {
            staged(move |m| {
                let value = m.binary(op, term(m), m.reach);
                m.plus(value)
            })
        };
        assert_eq!(of(RemEuclid, |m| m.distance), [0, 1]);
        assert_eq!(of(Div, |m| m.kv), [1, 0]);
        assert_eq!(of(Min, |m| m.distance), [0, 0], "cheaper than a read of shared memory");
        assert_eq!(staged(|m| m.binary(Ge, m.q, m.kv)), [0, 0], "an interval takes no code an element");
    }

    #[test]
    fn code_that_stays_long_or_has_too_many_terms_is_not_staged() {
        let long = |m: &mut Mod| {
            let value = m.load(m.kv);
            let rest = m.binary(Rem, m.score, value);
            m.binary(Add, rest, value)
        };
        assert_eq!(staged(long), [0, 0], "fmod an element");
        let several = |count: i32| {
            move |m: &mut Mod| {
                (2..2 + count).fold(m.score, |largest, step| {
                    let step = m.b.constant(step);
                    let index = m.binary(Mul, m.kv, step);
                    let value = m.load(index);
                    m.binary(Max, largest, value)
                })
            }
        };
        assert_eq!(staged(several(4)), [4, 0]);
        assert_eq!(staged(several(5)), [0, 0], "more than registers hold");
    }
}
