//! How long the code of an element is. Kernels repeat it for every element of a tile that a thread holds; long code they
//! loop over instead, or compiling would take many seconds.

use flex_core::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};

use super::code::ModCode;
use super::variance::Level;
use crate::Precision;

/// The instructions of an element from which on there should be few copies of them.
const LONG: u32 = 48;

/// Whether the elements of the given mods take long code together.
pub(super) fn is_long<'a>(mods: impl Iterator<Item = &'a ModCode<'a>>) -> bool {
    mods.map(instructions).sum::<u32>() >= LONG
}

/// About how many instructions an element takes; the two rows of a thread share those of a column. Code that may write the
/// record of a fault is long in any case.
fn instructions(code: &ModCode<'_>) -> u32 {
    let computed = computed(code);
    let of_level = |level: Level| -> u32 {
        let ids = code.expr.ids().filter(|&id| code.level(id) == level && computed[id.index()]);
        ids.map(|id| instructions_of(code, id)).sum()
    };
    let record = if code.may_fault(code.expr.root()) { LONG } else { 0 };
    of_level(Level::Element) + of_level(Level::Column) / 2 + record
}

/// The nodes that are not only there for what is staged.
fn computed(code: &ModCode<'_>) -> Vec<bool> {
    let (expr, staged) = (code.expr, &code.staged);
    if staged.is_empty() {
        return vec![true; expr.nodes().len()];
    }
    let mut wanted = vec![false; expr.nodes().len()];
    wanted[expr.root().index()] = true;
    for id in expr.ids().rev() {
        wanted[id.index()] &= !staged.contains(id);
        if wanted[id.index()] {
            code.for_each_operand(id, |operand| wanted[operand.index()] = true);
        }
    }
    wanted
}

/// What a node takes, its operands apart: cubins divided by elements, compiled for sm_90a.
pub(super) fn instructions_of(code: &ModCode<'_>, id: NodeId) -> u32 {
    use BinaryOp::*;
    use UnaryOp::*;
    let expr = code.expr;
    let is_real = expr.ty(id) == Type::F32;
    let fast = code.precision == Precision::Fast;
    let by_precision = |accurate, approximate| if fast { approximate } else { accurate };
    let guard = if code.may_fault(id) { 8 } else { 0 };
    guard
        + match *expr.node(id) {
            Node::Const(_) | Node::Input(_) | Node::Capture(_) | Node::Extent(..) | Node::After { .. } => 0,
            Node::Load(_, indices) => 4 * indices.as_slice().len() as u32,
            Node::Unary(Sin | Cos, _) => by_precision(160, 48),
            Node::Unary(Ln | Log2, _) => by_precision(48, 6),
            Node::Unary(Sqrt, _) => by_precision(48, 2),
            Node::Unary(Tanh, _) => by_precision(24, 1),
            Node::Unary(Exp | Exp2, _) => by_precision(12, 2),
            Node::Unary(..) => 2,
            Node::Binary(Pow, ..) => by_precision(160, 120),
            Node::Binary(Rem, ..) if is_real => 160,
            Node::Binary(Div, ..) if is_real => by_precision(48, 4),
            Node::Binary(op, _, b) if op.is_division() => {
                let rounding = if matches!(op, DivEuclid | RemEuclid) { 24 } else { 0 };
                match expr.node(b) {
                    // A multiplication, or a shift.
                    Node::Const(Scalar::I32(_) | Scalar::U32(_)) => 6 + rounding,
                    _ => 48 + rounding,
                }
            }
            Node::Binary(..) | Node::Select { .. } | Node::Cast(..) => 1,
        }
}
