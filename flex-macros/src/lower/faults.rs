//! What may fault.

use crate::ast::{Binary, Expr, ExprKind, Part, walk_expr};

/// Whether evaluating an expression can be noticed even where its value is not used: loads, divisions, calls. Names
/// cannot: what they stand for was kept where it was made.
pub(super) fn may_fault(expr: &Expr) -> bool {
    let mut found = false;
    walk_expr(expr, &mut |part| {
        let Part::Expr(expr) = part else { return };
        found |= match &expr.kind {
            ExprKind::Load { .. } | ExprKind::Call { .. } => true,
            ExprKind::Binary { op, .. } => divides(*op),
            ExprKind::Method { name, .. } => name == "div_euclid" || name == "rem_euclid",
            _ => false,
        };
    });
    found
}

pub(super) fn divides(op: Binary) -> bool {
    matches!(op, Binary::Div | Binary::Rem)
}
