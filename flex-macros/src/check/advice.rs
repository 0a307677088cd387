//! What to write where types do not fit.

use super::Checker;
use crate::ast::{Block, Body, Expr, ExprKind, Unary};
use crate::types::{Known, Ty, TyVar};

impl Checker<'_> {
    /// Reports an expression that has not the type it must have; `why` says who asks for it. Returns whether it fits.
    pub(super) fn expect(&mut self, expr: &Expr, got: TyVar, expected: TyVar, why: &str) -> bool {
        if self.types.unify(expected, got) {
            return true;
        }
        let (wanted, found) = (self.types.known(expected).clone(), self.types.known(got).clone());
        let (why, pause) = if why.is_empty() { (String::new(), ":") } else { (format!("{why}: "), ";") };
        let advice =
            advice(self.body, expr, &wanted, &found).map(|a| format!("{pause} {a}")).unwrap_or_default();
        let message = format!("{why}expected {}, found {}{advice}", wanted.describe(), found.describe());
        self.errors.report(expr.place, message);
        self.types.give_up(got);
        false
    }

    /// The same for a block, where the place to blame is its last expression.
    pub(super) fn expect_block(&mut self, block: &Block, got: TyVar, expected: TyVar, why: &str) -> bool {
        if let Some(tail) = &block.tail {
            return self.expect(tail, got, expected, why);
        }
        if self.types.unify(expected, got) {
            return true;
        }
        let expected = self.types.known(expected).describe();
        let why = if why.is_empty() { String::new() } else { format!("{why}: ") };
        self.errors.report(
            block.place,
            format!(
                "{why}expected {expected}, but this block has no value: end it with an expression without `;`"
            ),
        );
        false
    }

    /// Reports operands of two types, at the one to change.
    pub(super) fn report_operands(
        &mut self,
        symbol: &str,
        (left, a): (&Expr, TyVar),
        (right, b): (&Expr, TyVar),
    ) {
        let operands = [a, b];
        let (a, b) = (self.types.known(a).clone(), self.types.known(b).clone());
        // What is easier to change: a number, then an integer next to a float.
        let change_left = match (&a, &b) {
            (Known::Integer(_), _) => true,
            (_, Known::Integer(_)) => false,
            (Known::Float(_), _) => !is_integer(&b) || is_whole(left),
            (_, Known::Float(_)) => is_integer(&a) && !is_whole(right),
            (Known::Is(Ty::Bool), _) => true,
            (_, Known::Is(Ty::Bool)) => false,
            (Known::Is(Ty::I32 | Ty::U32), Known::Is(Ty::F32)) => true,
            (Known::Is(Ty::U32), Known::Is(Ty::I32)) => true,
            _ => false,
        };
        let (blamed, expected, got) = if change_left { (left, &b, &a) } else { (right, &a, &b) };
        let expected = match expected {
            Known::Float(_) => &Known::Is(Ty::F32),
            other => other,
        };
        operands.into_iter().for_each(|operand| self.types.give_up(operand));
        let advice = advice(self.body, blamed, expected, got).map(|a| format!(": {a}")).unwrap_or_default();
        let message = format!(
            "`{symbol}` needs two values of one type, got {} and {}{advice}",
            a.describe(),
            b.describe()
        );
        let place = if blamed.id == usize::MAX { right.place } else { blamed.place };
        self.errors.report(place, message);
    }
}

/// What to write where a value of one type stands in place of another.
fn advice(body: &Body, expr: &Expr, expected: &Known, got: &Known) -> Option<String> {
    let shown = text(body, expr).unwrap_or_else(|| "(..)".into());
    Some(match (expected, got) {
        (Known::Is(Ty::F32), Known::Integer(_)) if matches!(expr.kind, ExprKind::Int { .. }) => {
            format!("write `{shown}.0`")
        }
        (Known::Is(Ty::F32), Known::Is(Ty::I32 | Ty::U32) | Known::Integer(_)) => {
            format!("write `{shown} as f32`")
        }
        (Known::Is(ty @ (Ty::I32 | Ty::U32)), Known::Is(Ty::F32 | Ty::I32 | Ty::U32)) => {
            format!("write `{shown} as {}`", ty.name())
        }
        (Known::Is(Ty::I32 | Ty::U32) | Known::Integer(_), Known::Float(_)) if is_whole(expr) => {
            format!("write `{}`", shown.split('.').next().unwrap_or("0"))
        }
        (Known::Is(Ty::I32 | Ty::U32) | Known::Integer(_), Known::Float(_)) => {
            "write an integer such as `2`".into()
        }
        (Known::Integer(_), Known::Is(Ty::F32)) => format!("write `{shown} as i32`"),
        (Known::Is(Ty::Bool), Known::Is(Ty::I32 | Ty::U32) | Known::Integer(_)) => {
            format!("compare it, `{shown} != 0`")
        }
        (Known::Is(Ty::Bool), Known::Is(Ty::F32) | Known::Float(_)) => format!("compare it, `{shown} > 0.0`"),
        (Known::Is(ty @ (Ty::I32 | Ty::U32)), Known::Is(Ty::Bool)) => {
            format!("write `{shown} as {}`", ty.name())
        }
        (Known::Is(Ty::F32) | Known::Float(_), Known::Is(Ty::Bool)) => {
            format!("write `if {shown} {{ 1.0 }} else {{ 0.0 }}`")
        }
        (Known::Is(Ty::Unit), _) => "end it with `;`, or use its value".into(),
        _ => return None,
    })
}

fn is_integer(known: &Known) -> bool {
    matches!(known, Known::Is(Ty::I32 | Ty::U32) | Known::Integer(_))
}

/// Whether an expression is a float literal that could be an integer.
fn is_whole(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Float { digits, .. } if digits.ends_with(".0"))
}

/// The user's expression, if it is short.
pub(super) fn text(body: &Body, expr: &Expr) -> Option<String> {
    let text = match &expr.kind {
        ExprKind::Int { value, .. } => value.to_string(),
        ExprKind::Float { digits, .. } => digits.clone(),
        ExprKind::Bool(value) => value.to_string(),
        ExprKind::Var(var) => body.vars[var.0].name(),
        ExprKind::Constant(path) => {
            path.segments.iter().map(|s| s.ident.to_string()).collect::<Vec<_>>().join("::")
        }
        ExprKind::Unary { op, operand } => {
            let sign = if *op == Unary::Neg { '-' } else { '!' };
            format!("{sign}{}", text(body, operand)?)
        }
        ExprKind::Binary { op, left, right, .. } => {
            format!("({} {} {})", text(body, left)?, op.names().0, text(body, right)?)
        }
        ExprKind::Load { view, indices, .. } => {
            let list: Option<Vec<_>> = indices.iter().map(|i| text(body, i)).collect();
            let list = list?.join(", ");
            let name = body.vars[view.0].name();
            if indices.len() == 1 { format!("{name}[{list}]") } else { format!("{name}[[{list}]]") }
        }
        ExprKind::Method { owner: None, receiver, name, args } => {
            let list: Option<Vec<_>> = args.iter().map(|arg| text(body, arg)).collect();
            format!("{}.{name}({})", text(body, receiver)?, list?.join(", "))
        }
        ExprKind::Cast { value, ty } => format!("({} as {})", text(body, value)?, ty.name()),
        _ => return None,
    };
    (text.len() <= 40).then_some(text)
}
