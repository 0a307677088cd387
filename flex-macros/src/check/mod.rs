//! The types of a body: every expression gets one, every contradiction is reported with what to write instead.

mod advice;
pub(crate) mod methods;

use crate::ast::{
    Arm, Binary, Block, Body, Bound, Expr, ExprKind, For, Origin, Part, Pattern, Stmt, Unary, VarId,
    walk_block,
};
use crate::diagnostics::{Errors, Place};
use crate::types::{Known, Source, Ty, TyVar, Types};

/// The types of a checked body.
pub(crate) struct Checked {
    types: Types,
    exprs: Vec<TyVar>,
    vars: Vec<TyVar>,
}

impl Checked {
    /// What is known of an expression's type.
    pub(crate) fn expr(&self, expr: &Expr) -> &Known {
        self.types.known(self.exprs[expr.id])
    }

    /// What is known of a variable's type; of its elements' if it is a view.
    pub(crate) fn var(&self, var: VarId) -> &Known {
        self.types.known(self.vars[var.0])
    }
}

/// Checks a body whose value must have the given type.
pub(crate) fn check(body: &Body, result: Option<Ty>, errors: &mut Errors) -> Checked {
    let mut types = Types::default();
    let unknown = types.fresh(Known::Mistake);
    let vars = body
        .vars
        .iter()
        .enumerate()
        .map(|(i, var)| {
            let known = match &var.origin {
                Origin::Parameter(ty)
                | Origin::View { element: ty, .. }
                | Origin::Let { ty: Some(ty), .. } => Known::Is(*ty),
                Origin::Captured { .. } => Known::Unknown(Some(Source::Capture(VarId(i)))),
                Origin::Let { ty: None, .. } | Origin::Loop | Origin::Binding => Known::Unknown(None),
                Origin::Passed | Origin::Mistake => Known::Mistake,
            };
            types.fresh(known)
        })
        .collect();
    let mut checker = Checker { body, types, exprs: vec![unknown; body.expressions], vars, errors };
    let value = checker.block(&body.block);
    let expected = checker.types.fresh(result.map_or(Known::Mistake, Known::Is));
    checker.expect_block(&body.block, value, expected, "");
    checker.literals(&body.block);
    let Checker { types, exprs, vars, .. } = checker;
    Checked { types, exprs, vars }
}

pub(super) struct Checker<'a> {
    pub(super) body: &'a Body,
    pub(super) types: Types,
    exprs: Vec<TyVar>,
    vars: Vec<TyVar>,
    pub(super) errors: &'a mut Errors,
}

impl Checker<'_> {
    fn block(&mut self, block: &Block) -> TyVar {
        for stmt in &block.stmts {
            self.stmt(stmt);
        }
        match &block.tail {
            Some(tail) => self.expr(tail),
            None => self.types.is(Ty::Unit),
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { var, init } => {
                let ty = self.expr(init);
                if self.types.get(ty) == Some(Ty::Unit) {
                    self.errors.report(init.place, "this has no value to give a name to");
                    return;
                }
                self.expect(init, ty, self.vars[var.0], "");
            }
            Stmt::Discard { value, ty } => {
                let got = self.expr(value);
                if let Some(ty) = ty {
                    let expected = self.types.is(*ty);
                    self.expect(value, got, expected, "");
                }
            }
            Stmt::Assign { var, op, value, .. } => {
                let got = self.expr(value);
                let target = self.vars[var.0];
                let name = self.body.vars[var.0].name();
                match op {
                    None => {
                        self.expect(value, got, target, &format!("`{name}`"));
                    }
                    Some((op, place)) => {
                        let target_expr = Expr { id: usize::MAX, place: *place, kind: ExprKind::Var(*var) };
                        let result = self.binary(*op, (&target_expr, target), (value, got));
                        if !self.types.unify(target, result) {
                            self.errors.report(*place, format!("the result does not fit into `{name}`"));
                        }
                    }
                }
            }
            Stmt::For(each) => self.for_loop(each),
        }
    }

    fn for_loop(&mut self, each: &For) {
        let ty = self.types.fresh(Known::Integer(None));
        for Bound { place, ty: written, constant, .. } in [&each.start, &each.end] {
            let known = match (written, constant) {
                (Some(written), _) => Known::Is(*written),
                (None, Some(path)) => constant_type(path),
                (None, None) => continue,
            };
            let bound = self.types.fresh(known);
            if !self.types.unify(ty, bound) {
                self.errors.report(*place, "the bounds of a loop must be integers of one type");
            }
        }
        if let Some(var) = each.var {
            self.types.unify(self.vars[var.0], ty);
        }
        let body = self.block(&each.body);
        let unit = self.types.is(Ty::Unit);
        self.expect_block(&each.body, body, unit, "the body of a loop has no value");
    }

    fn expr(&mut self, expr: &Expr) -> TyVar {
        let ty = self.type_of(expr);
        self.exprs[expr.id] = ty;
        ty
    }

    fn type_of(&mut self, expr: &Expr) -> TyVar {
        match &expr.kind {
            ExprKind::Mistake => self.types.fresh(Known::Mistake),
            ExprKind::Bool(_) => self.types.is(Ty::Bool),
            ExprKind::Int { suffix: Some(ty), .. } => self.types.is(*ty),
            ExprKind::Int { suffix: None, .. } => self.types.fresh(Known::Integer(None)),
            ExprKind::Float { suffix: true, .. } => self.types.is(Ty::F32),
            ExprKind::Float { suffix: false, .. } => self.types.fresh(Known::Float(None)),
            ExprKind::Constant(path) => self.types.fresh(constant_type(path)),
            ExprKind::Var(var) => {
                let variable = &self.body.vars[var.0];
                if let Some(rank) = variable.rank() {
                    let name = variable.name();
                    let axes = ["i", "j", "k", "l"][..rank.min(4)].join(", ");
                    let write = if rank == 1 { format!("{name}[i]") } else { format!("{name}[[{axes}]]") };
                    self.errors.report(
                        expr.place,
                        format!("`{name}` is an array of rank {rank}, not a value: index it, `{write}`"),
                    );
                    return self.types.fresh(Known::Mistake);
                }
                self.vars[var.0]
            }
            ExprKind::Unary { op, operand } => {
                let ty = self.expr(operand);
                self.unary(*op, expr.place, operand, ty)
            }
            ExprKind::Binary { op, left, right } => {
                let (a, b) = (self.expr(left), self.expr(right));
                self.binary(*op, (left, a), (right, b))
            }
            ExprKind::Logic { and, left, right } => {
                let symbol = if *and { "&&" } else { "||" };
                for side in [left, right] {
                    self.expect_bool(side, &format!("`{symbol}`"));
                }
                self.types.is(Ty::Bool)
            }
            ExprKind::Cast { value, ty } => self.cast(value, *ty, expr.place),
            ExprKind::Method { owner, receiver, name, args } => self.method(*owner, receiver, name, args),
            ExprKind::Call { path, args } => {
                for (i, arg) in args.iter().enumerate() {
                    if self.is_view_argument(arg) {
                        continue;
                    }
                    let ty = self.expr(arg);
                    let parameter =
                        self.types.fresh(Known::Unknown(Some(Source::Parameter(path.clone(), i))));
                    self.types.unify(ty, parameter);
                }
                self.types.fresh(Known::Unknown(Some(Source::Result(path.clone()))))
            }
            ExprKind::Load { view, indices, as_array } => {
                let mut first = None;
                for index in indices {
                    let ty = self.expr(index);
                    let integer = self.types.fresh(Known::Integer(None));
                    self.expect(index, ty, integer, "an index is an i32 or u32");
                    if *as_array && self.types.get(ty).is_none_or(Ty::is_integer) {
                        let first = *first.get_or_insert(ty);
                        self.expect(index, ty, first, "the indices in `[[ ]]` have one type");
                    }
                }
                self.vars[view.0]
            }
            ExprKind::Extent { view, axis } => {
                let variable = &self.body.vars[view.0];
                match variable.rank() {
                    Some(rank) if *axis < rank => {}
                    Some(rank) => {
                        let message = format!(
                            "`{}` has rank {rank}, so its last axis is {}",
                            variable.name(),
                            rank - 1
                        );
                        self.errors.report(expr.place, message);
                    }
                    None => {
                        let message = format!(
                            "how many axes `{}` has cannot be seen here: index it somewhere, or write a function with `{}: View<f32, 2>`",
                            variable.name(),
                            variable.name()
                        );
                        self.errors.report(expr.place, message);
                    }
                }
                self.types.is(Ty::I32)
            }
            ExprKind::If { condition, accept, reject } => {
                self.expect_bool(condition, "the condition of an `if`");
                let a = self.block(accept);
                let Some(reject) = reject else {
                    let unit = self.types.is(Ty::Unit);
                    let fits = self.expect_block(
                        accept,
                        a,
                        unit,
                        "an `if` that is used as a value needs an `else { .. }`",
                    );
                    return if fits { unit } else { self.types.fresh(Known::Mistake) };
                };
                let b = self.block(reject);
                self.expect_block(reject, b, a, "both branches of an `if` have one type");
                // The branch without its mistake says more about the type.
                if matches!(self.types.known(a), Known::Mistake) { b } else { a }
            }
            ExprKind::Match { scrutinee, arms } => self.matching(scrutinee, arms),
            ExprKind::Block(block) => self.block(block),
        }
    }

    fn matching(&mut self, scrutinee: &Expr, arms: &[Arm]) -> TyVar {
        let subject = self.expr(scrutinee);
        if matches!(self.types.known(subject), Known::Is(Ty::F32 | Ty::Unit) | Known::Float(_)) {
            let got = self.types.known(subject).describe();
            self.errors.report(
                scrutinee.place,
                format!("a mod matches integers and bools, this is {got}: use `if` and `else`"),
            );
        }
        let mut result: Option<TyVar> = None;
        for arm in arms {
            if let Some(binding) = arm.binding {
                self.types.unify(self.vars[binding.0], subject);
            }
            for pattern in &arm.patterns {
                let values = match pattern {
                    Pattern::Any => [None, None],
                    Pattern::Value(value) => [Some(value), None],
                    Pattern::Range { low, high, .. } => [low.as_ref(), high.as_ref()],
                };
                for value in values.into_iter().flatten() {
                    let ty = self.expr(value);
                    self.expect(value, ty, subject, "patterns have the type of the matched value");
                }
            }
            if let Some(guard) = &arm.guard {
                self.expect_bool(guard, "the condition of an arm");
            }
            let value = self.block(&arm.body);
            match result {
                None => result = Some(value),
                Some(result) => {
                    self.expect_block(&arm.body, value, result, "all arms of a `match` have one type");
                }
            }
        }
        result.expect("the parser has seen an arm")
    }

    /// Whether an argument is a whole view, or a captured name that may turn out to be one.
    fn is_view_argument(&self, arg: &Expr) -> bool {
        let ExprKind::Var(var) = arg.kind else { return false };
        let var = &self.body.vars[var.0];
        var.rank().is_some() || matches!(var.origin, Origin::Passed)
    }

    fn expect_bool(&mut self, expr: &Expr, why: &str) {
        let ty = self.expr(expr);
        let bool = self.types.is(Ty::Bool);
        self.expect(expr, ty, bool, why);
    }

    fn unary(&mut self, op: Unary, place: Place, operand: &Expr, ty: TyVar) -> TyVar {
        let shown = advice::text(self.body, operand).unwrap_or_else(|| "x".into());
        match (op, self.types.known(ty)) {
            (Unary::Neg, Known::Is(Ty::U32)) => {
                let message = format!(
                    "`-` is not defined on u32: write `-({shown} as i32)`, or `{shown}.wrapping_neg()`"
                );
                self.errors.report(place, message);
                self.types.fresh(Known::Mistake)
            }
            (Unary::Neg, Known::Is(Ty::Bool)) => {
                self.errors.report(place, format!("`-` is not defined on bool: write `!{shown}`"));
                self.types.fresh(Known::Mistake)
            }
            (Unary::Not, Known::Is(Ty::F32) | Known::Float(_)) => {
                self.errors
                    .report(place, "`!` is not defined on f32: it takes a bool or an integer".to_owned());
                self.types.fresh(Known::Mistake)
            }
            (_, Known::Is(Ty::Unit)) => {
                self.errors.report(place, "there is no value here".to_owned());
                self.types.fresh(Known::Mistake)
            }
            _ => ty,
        }
    }

    pub(super) fn binary(
        &mut self,
        op: Binary,
        (left, a): (&Expr, TyVar),
        (right, b): (&Expr, TyVar),
    ) -> TyVar {
        let (symbol, _) = op.names();
        if matches!(op, Binary::Shl | Binary::Shr) {
            for (side, ty) in [(left, a), (right, b)] {
                let integer = self.types.fresh(Known::Integer(None));
                // The amount may have another integer type than the value.
                let copy = self.types.fresh(self.types.known(ty).clone());
                let ty = if self.types.get(ty).is_some() { copy } else { ty };
                self.expect(side, ty, integer, &format!("`{symbol}` takes integers"));
            }
            return a;
        }
        let comparison =
            matches!(op, Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge);
        let bitwise = matches!(op, Binary::And | Binary::Or | Binary::Xor);
        for (side, ty) in [(left, a), (right, b)] {
            let shown = advice::text(self.body, side).unwrap_or_else(|| "x".into());
            let message = match self.types.known(ty) {
                Known::Is(Ty::Unit) => format!("`{symbol}` needs a value here"),
                Known::Is(Ty::Bool) if !comparison && !bitwise => {
                    format!(
                        "`{symbol}` takes numbers, this is a bool: write `{shown} as i32`, or use `if` and `else`"
                    )
                }
                Known::Is(Ty::F32) | Known::Float(_) if bitwise => {
                    format!("`{symbol}` takes bools or integers, this is an f32")
                }
                _ => continue,
            };
            self.errors.report(side.place, message);
            return self.types.fresh(if comparison { Known::Is(Ty::Bool) } else { Known::Mistake });
        }
        if !self.types.unify(a, b) {
            self.report_operands(symbol, (left, a), (right, b));
            return self.types.fresh(if comparison { Known::Is(Ty::Bool) } else { Known::Mistake });
        }
        if comparison { self.types.is(Ty::Bool) } else { a }
    }

    fn cast(&mut self, value: &Expr, ty: Ty, place: Place) -> TyVar {
        let from = self.expr(value);
        let target = self.types.is(ty);
        let shown = advice::text(self.body, value).unwrap_or_else(|| "x".into());
        let message = match (self.types.known(from), ty) {
            // The literal takes the type it is cast to.
            (Known::Integer(None), Ty::I32 | Ty::U32) if matches!(value.kind, ExprKind::Int { .. }) => {
                self.types.unify(from, target);
                return target;
            }
            (Known::Float(None), Ty::F32) => {
                self.types.unify(from, target);
                return target;
            }
            (Known::Float(None), Ty::I32 | Ty::U32) => {
                format!("write the integer itself, or `{shown}f32 as {}`", ty.name())
            }
            (Known::Is(Ty::I32 | Ty::U32 | Ty::F32) | Known::Integer(_) | Known::Float(_), Ty::Bool) => {
                format!("numbers cannot be cast to bool: write `{shown} != 0`")
            }
            (Known::Is(Ty::Bool), Ty::F32) => {
                format!("bools cannot be cast to f32: write `if {shown} {{ 1.0 }} else {{ 0.0 }}`")
            }
            (Known::Is(Ty::Unit), _) => "there is no value to cast".into(),
            _ => return target,
        };
        self.errors.report(place, message);
        target
    }

    /// Reports numbers that their type cannot hold, and floats that nothing makes an f32: Rust would take them as f64.
    fn literals(&mut self, block: &Block) {
        walk_block(block, &mut |part| {
            let Part::Expr(expr) = part else { return };
            match (&expr.kind, self.types.known(self.exprs[expr.id])) {
                (ExprKind::Float { digits, .. }, Known::Float(None)) => {
                    let message = format!(
                        "nothing here makes this number an f32 (Rust takes it as f64): write `{digits}f32`"
                    );
                    self.errors.report(expr.place, message);
                }
                (ExprKind::Int { value, .. }, known) => {
                    let (fits, name) = match known {
                        Known::Is(Ty::I32) | Known::Integer(None) => (i32::try_from(*value).is_ok(), "i32"),
                        Known::Is(Ty::U32) => (u32::try_from(*value).is_ok(), "u32"),
                        _ => ((i128::from(i32::MIN)..=i128::from(u32::MAX)).contains(value), "i32 or u32"),
                    };
                    if !fits {
                        self.errors.report(expr.place, format!("{value} does not fit into {name}"));
                    }
                }
                _ => {}
            }
        });
    }
}

/// The type of a constant where its path tells it.
fn constant_type(path: &syn::Path) -> Known {
    let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
    let (last, owners) = segments.split_last().expect("a path has a segment");
    let owner = owners.last().map(String::as_str);
    match (owner.and_then(Ty::from_name), last.as_str()) {
        (Some(ty @ (Ty::I32 | Ty::U32 | Ty::F32)), "MAX" | "MIN") => Known::Is(ty),
        (Some(Ty::F32), "INFINITY" | "NEG_INFINITY" | "NAN" | "EPSILON" | "MIN_POSITIVE") => {
            Known::Is(Ty::F32)
        }
        _ if owner == Some("consts") && owners.iter().any(|s| s == "f32") => Known::Is(Ty::F32),
        _ => Known::Unknown(Some(Source::Constant(path.clone()))),
    }
}
