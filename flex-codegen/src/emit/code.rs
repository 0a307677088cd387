//! What the emission of a mod needs to know of it, in one place.

use std::collections::HashSet;

use flex_core::analysis::faults::Faults;
use flex_core::ir::{CaptureId, Expr, Input, Node, NodeId, Type};

use super::layout::ModKind;
use super::position_sum::PositionSum;
use super::staged::StagedNodes;
use super::text::{Text, element_type, type_name};
use super::variance::{Level, levels_of};
use crate::{FaultPlace, FaultSite, Precision};

/// How a mod's loads and divisions are guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarding {
    /// Not at all: nothing can fault, whatever branch is taken.
    None,
    /// Nothing faults where Rust would execute it; what Rust would not always execute reads nothing where it must not.
    Quiet,
    /// Faults are values, passed on as by the interpreter, and recorded.
    Recorded,
}

/// A mod to be emitted.
#[derive(Clone, Debug)]
pub(super) struct ModCode<'a> {
    pub(super) kind: ModKind,
    pub(super) expr: &'a Expr,
    pub(super) precision: Precision,
    pub(super) guarding: Guarding,
    pub(super) levels: Vec<Level>,
    /// The last index of a load, where it is a sum of positions that may be computed in 64 bits.
    sums: Vec<Option<PositionSum>>,
    /// Whether a node's evaluation may fault; all false unless faults are recorded.
    pub(super) may_fault: Vec<bool>,
    /// Whether Rust evaluates the node wherever it evaluates the mod.
    unconditional: Vec<bool>,
    /// The fields of `Captures`, by capture.
    fields: Vec<String>,
    /// The capture that is the scale of the launch.
    pub(super) scale: Option<CaptureId>,
    /// The number of the first fault site of every node that has some.
    site_of: Vec<Option<usize>>,
    /// What kernels compute once a tile.
    pub(super) staged: StagedNodes,
    /// Whether kernels say where in a tile a position is.
    knows_places: bool,
}

impl<'a> ModCode<'a> {
    pub(super) fn new(
        kind: ModKind,
        expr: &'a Expr,
        precision: Precision,
        guarding: Guarding,
        scale: Option<CaptureId>,
        sites: &mut Vec<FaultSite>,
    ) -> Self {
        let levels = levels_of(expr);
        let sums = match guarding {
            Guarding::None => expr.ids().map(|id| position_sum(expr, &levels, id)).collect(),
            _ => vec![None; expr.nodes().len()],
        };
        let faults = Faults::of(expr);
        let recorded = guarding == Guarding::Recorded;
        let mut site_of = vec![None; expr.nodes().len()];
        for id in expr.ids().filter(|&id| recorded && faults.own(id)) {
            site_of[id.index()] = Some(sites.len());
            match *expr.node(id) {
                Node::Load(capture, indices) => {
                    for (axis, &index) in indices.as_slice().iter().enumerate() {
                        let unsigned = expr.ty(index) == Type::U32;
                        let place = FaultPlace::Load { capture, axis: axis as u8, unsigned };
                        sites.push(FaultSite { of: kind, place });
                    }
                }
                _ => sites.push(FaultSite { of: kind, place: FaultPlace::Division }),
            }
        }
        Self {
            kind,
            expr,
            precision,
            guarding,
            levels,
            sums,
            may_fault: expr.ids().map(|id| recorded && faults.any(id)).collect(),
            unconditional: unconditional(expr),
            fields: field_names(kind, expr),
            scale,
            site_of,
            staged: StagedNodes::default(),
            knows_places: true,
        }
    }

    /// The same code where a position is but a number.
    pub(super) fn without_places(&self) -> Self {
        Self { sums: vec![None; self.expr.nodes().len()], knows_places: false, ..self.clone() }
    }

    pub(super) fn level(&self, id: NodeId) -> Level {
        self.levels[id.index()]
    }

    /// The last index of a load, where it is a sum of positions that may be computed in 64 bits.
    pub(super) fn position_sum(&self, id: NodeId) -> Option<&PositionSum> {
        self.sums[id.index()].as_ref()
    }

    /// The key as f32, which kernels have at hand. Only where positions are small enough to be exact.
    pub(super) fn is_real_key(&self, id: NodeId) -> bool {
        let is_key = |x: NodeId| *self.expr.node(x) == Node::Input(Input::Key);
        self.knows_places
            && self.guarding == Guarding::None
            && matches!(*self.expr.node(id), Node::Cast(Type::F32, x) if is_key(x))
    }

    /// Whether the code of columns and elements asks for more of a position than its value.
    pub(super) fn takes_indices(&self) -> bool {
        self.expr.ids().any(|id| self.position_sum(id).is_some() || self.is_real_key(id))
    }

    /// What has to be computed before a node.
    pub(super) fn for_each_operand(&self, id: NodeId, mut f: impl FnMut(NodeId)) {
        match (self.position_sum(id), self.expr.node(id)) {
            (Some(sum), Node::Load(_, indices)) => {
                let (_, outer) = indices.as_slice().split_last().expect("loads have an index");
                outer.iter().copied().chain(sum.other()).for_each(f);
            }
            (_, Node::Cast(..)) if self.is_real_key(id) => {}
            (_, node) => node.for_each_operand(&mut f),
        }
    }

    pub(super) fn may_fault(&self, id: NodeId) -> bool {
        self.may_fault[id.index()]
    }

    /// Whether a load must look at its index before it reads.
    pub(super) fn load_is_guarded(&self, id: NodeId) -> bool {
        match self.guarding {
            Guarding::None => false,
            Guarding::Quiet => !self.unconditional[id.index()],
            Guarding::Recorded => true,
        }
    }

    /// The fault site of a division, or of the first axis of a load; those of the other axes follow.
    pub(super) fn site(&self, id: NodeId) -> Option<usize> {
        self.site_of[id.index()]
    }

    /// `c.field`, the address of an array or the value of a scalar.
    pub(super) fn capture(&self, id: CaptureId) -> Text {
        match self.expr.capture(id).ty {
            _ if Some(id) == self.scale => Text::atom("p.scale"),
            Type::Bool if self.expr.capture(id).rank == 0 => {
                Text::compound(format!("c.{} != 0", self.fields[id.index()]))
            }
            _ => Text::atom(format!("c.{}", self.fields[id.index()])),
        }
    }

    /// `c.field_len1`.
    pub(super) fn extent(&self, id: CaptureId, axis: usize) -> Text {
        Text::atom(format!("c.{}_len{axis}", self.fields[id.index()]))
    }

    /// The mod's fields of `Captures`, a line each, in the order of the layout.
    pub(super) fn capture_fields(&self) -> String {
        let mut text = String::new();
        for (i, decl) in self.expr.captures().iter().enumerate() {
            let field = &self.fields[i];
            if self.scale == Some(CaptureId(i as u32)) {
                continue;
            }
            if decl.rank == 0 {
                let ty = if decl.ty == Type::Bool { "unsigned" } else { type_name(decl.ty) };
                text += &format!("    alignas(8) {ty} {field};\n");
                continue;
            }
            text += &format!("    alignas(8) const {}* {field};\n", element_type(decl.ty));
            for axis in 0..decl.rank {
                text += &format!("    alignas(8) int {field}_len{axis};\n");
            }
        }
        text
    }

    /// What a value's variable or field is called.
    pub(super) fn name(&self, id: NodeId) -> String {
        let letter = &self.kind.name()[..1];
        match *self.expr.node(id) {
            Node::Load(capture, _) => {
                format!("{letter}{}_{}", id.0, identifier(&self.expr.capture(capture).name))
            }
            _ => format!("{letter}{}", id.0),
        }
    }
}

/// The last index of a load of columns or elements, where it is a sum of positions.
fn position_sum(expr: &Expr, levels: &[Level], id: NodeId) -> Option<PositionSum> {
    match expr.node(id) {
        Node::Load(_, indices) if levels[id.index()] >= Level::Column => {
            PositionSum::of(expr, levels, *indices.as_slice().last()?)
        }
        _ => None,
    }
}

/// A name from the user's code as part of a C++ identifier.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// `mask_doc`, `score_slope`: with the mod's kind in front no name is a keyword; a number keeps equal names apart.
fn field_names(kind: ModKind, expr: &Expr) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut names = Vec::new();
    for decl in expr.captures() {
        let base = format!("{}_{}", kind.name(), identifier(&decl.name));
        let mut name = base.clone();
        let mut n = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base}_{n}");
            n += 1;
        }
        names.push(name);
    }
    names
}

/// The nodes that are evaluated whenever the root is.
fn unconditional(expr: &Expr) -> Vec<bool> {
    let mut always = vec![false; expr.nodes().len()];
    always[expr.root().index()] = true;
    for id in expr.ids().rev().filter(|id| id.index() <= expr.root().index()) {
        if !always[id.index()] {
            continue;
        }
        match *expr.node(id) {
            Node::Select { condition, .. } => always[condition.index()] = true,
            ref node => node.for_each_operand(|operand| always[operand.index()] = true),
        }
    }
    always
}
