//! A mod's body as this crate understands it: names resolved, every node with its place in the user's code.

use proc_macro2::{Ident, TokenStream};

use crate::diagnostics::Place;
use crate::types::Ty;

/// A variable of a body, by position in [`Body::vars`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VarId(pub(crate) usize);

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    /// The name, at the token that introduced it.
    pub(crate) ident: Ident,
    /// How it came into scope.
    pub(crate) origin: Origin,
}

/// How a name came into scope.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A scalar parameter of a function, or an index or score of a closure.
    Parameter(Ty),
    /// A view parameter of a function.
    View { element: Ty, rank: usize },
    /// A free name of a closure. It is a view once it was indexed.
    Captured { rank: Option<usize> },
    /// A free name of a closure that is only passed on to functions, as a scalar or a whole array.
    Passed,
    /// A `let`, with its type where it is written.
    Let { mutable: bool, ty: Option<Ty> },
    /// The variable of a `for`.
    Loop,
    /// The name of a match arm.
    Binding,
    /// A `let` that was reported: fits everything.
    Mistake,
}

impl Var {
    /// The name as the user wrote it, without `r#`.
    pub(crate) fn name(&self) -> String {
        self.ident.to_string().trim_start_matches("r#").to_owned()
    }

    /// The rank, if the variable is a view.
    pub(crate) fn rank(&self) -> Option<usize> {
        match self.origin {
            Origin::View { rank, .. } => Some(rank),
            Origin::Captured { rank } => rank,
            _ => None,
        }
    }
}

/// A body with the variables it uses.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) vars: Vec<Var>,
    pub(crate) block: Block,
    /// How many expressions there are: their ids are below.
    pub(crate) expressions: usize,
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: usize,
    pub(crate) place: Place,
    pub(crate) kind: ExprKind,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Int {
        value: i128,
        suffix: Option<Ty>,
    },
    Float {
        digits: String,
        suffix: bool,
    },
    Bool(bool),
    Var(VarId),
    Constant(syn::Path),
    Unary {
        op: Unary,
        operand: Box<Expr>,
    },
    Binary {
        op: Binary,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `&&` and `||`.
    Logic {
        and: bool,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Cast {
        value: Box<Expr>,
        ty: Ty,
    },
    /// `receiver.name(args)`, or `owner::name(receiver, args)`.
    Method {
        owner: Option<Ty>,
        receiver: Box<Expr>,
        name: Ident,
        args: Vec<Expr>,
    },
    /// A call of another mod or `#[mod_fn]`.
    Call {
        path: syn::Path,
        args: Vec<Expr>,
    },
    Load {
        view: VarId,
        indices: Vec<Expr>,
        /// `[[i, j]]`, which wants indices of one type; `[(i, j)]` does not.
        as_array: bool,
    },
    /// `view.len()` and `view.dim(axis)`.
    Extent {
        view: VarId,
        axis: usize,
    },
    If {
        condition: Box<Expr>,
        accept: Block,
        reject: Option<Block>,
    },
    Match {
        scrutinee: Box<Expr>,
        arms: Vec<Arm>,
    },
    Block(Block),
    /// Something that was reported already.
    Mistake,
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Neg,
    Not,
}

/// Operators whose operands are both evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Binary {
    /// The operator as Rust writes it, and the name of its operation.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Add => ("+", "Add"),
            Self::Sub => ("-", "Sub"),
            Self::Mul => ("*", "Mul"),
            Self::Div => ("/", "Div"),
            Self::Rem => ("%", "Rem"),
            Self::And => ("&", "And"),
            Self::Or => ("|", "Or"),
            Self::Xor => ("^", "Xor"),
            Self::Shl => ("<<", "Shl"),
            Self::Shr => (">>", "Shr"),
            Self::Eq => ("==", "Eq"),
            Self::Ne => ("!=", "Ne"),
            Self::Lt => ("<", "Lt"),
            Self::Le => ("<=", "Le"),
            Self::Gt => (">", "Gt"),
            Self::Ge => (">=", "Ge"),
        }
    }
}

/// Statements and a value.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) place: Place,
    pub(crate) stmts: Vec<Stmt>,
    pub(crate) tail: Option<Box<Expr>>,
}

/// A statement.
#[derive(Clone, Debug)]
pub(crate) enum Stmt {
    /// `let var = init;`
    Let { var: VarId, init: Expr },
    /// `let _ = expr;` with its type where it is written, or `expr;`.
    Discard { value: Expr, ty: Option<Ty> },
    /// `var = value;` or `var op= value;`
    Assign { var: VarId, op: Option<(Binary, Place)>, value: Expr },
    /// `for var in start..end { body }`
    For(Box<For>),
}

/// A loop over a constant range.
#[derive(Clone, Debug)]
pub(crate) struct For {
    pub(crate) var: Option<VarId>,
    pub(crate) start: Bound,
    pub(crate) end: Bound,
    pub(crate) inclusive: bool,
    pub(crate) place: Place,
    pub(crate) body: Block,
}

/// A constant bound of a loop.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) place: Place,
    /// The user's tokens.
    pub(crate) tokens: TokenStream,
    /// The value, if it is written as a number.
    pub(crate) value: Option<i128>,
    /// The type, if it is written.
    pub(crate) ty: Option<Ty>,
    /// A constant in it, which has the type of the loop's variable.
    pub(crate) constant: Option<syn::Path>,
}

/// An arm of a `match`.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    pub(crate) patterns: Vec<Pattern>,
    /// A name for the matched value.
    pub(crate) binding: Option<VarId>,
    pub(crate) guard: Option<Expr>,
    pub(crate) body: Block,
}

/// One alternative of an arm.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Any,
    /// A literal or constant.
    Value(Expr),
    /// `low..=high`, or `low..high`; open at either side.
    Range {
        low: Option<Expr>,
        high: Option<Expr>,
        inclusive: bool,
    },
}

/// A part of a body, for [`walk_block`].
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Stmt(&'a Stmt),
    Expr(&'a Expr),
}

/// Visits every statement and expression of a block, outside first.
pub(crate) fn walk_block<'a>(block: &'a Block, visit: &mut impl FnMut(Part<'a>)) {
    for stmt in &block.stmts {
        visit(Part::Stmt(stmt));
        match stmt {
            Stmt::Let { init: value, .. } | Stmt::Discard { value, .. } | Stmt::Assign { value, .. } => {
                walk_expr(value, visit);
            }
            Stmt::For(each) => walk_block(&each.body, visit),
        }
    }
    if let Some(tail) = &block.tail {
        walk_expr(tail, visit);
    }
}

/// The functions that a block calls, each once.
pub(crate) fn callees(block: &Block) -> Vec<&syn::Path> {
    let mut paths: Vec<&syn::Path> = Vec::new();
    walk_block(block, &mut |part| {
        if let Part::Expr(Expr { kind: ExprKind::Call { path, .. }, .. }) = part
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    });
    paths
}

/// Visits an expression and everything in it, outside first.
pub(crate) fn walk_expr<'a>(expr: &'a Expr, visit: &mut impl FnMut(Part<'a>)) {
    visit(Part::Expr(expr));
    match &expr.kind {
        ExprKind::Unary { operand: x, .. } | ExprKind::Cast { value: x, .. } => walk_expr(x, visit),
        ExprKind::Binary { left, right, .. } | ExprKind::Logic { left, right, .. } => {
            walk_expr(left, visit);
            walk_expr(right, visit);
        }
        ExprKind::Method { receiver, args, .. } => {
            walk_expr(receiver, visit);
            args.iter().for_each(|arg| walk_expr(arg, visit));
        }
        ExprKind::Call { args, .. } => args.iter().for_each(|arg| walk_expr(arg, visit)),
        ExprKind::Load { indices, .. } => indices.iter().for_each(|i| walk_expr(i, visit)),
        ExprKind::If { condition, accept, reject } => {
            walk_expr(condition, visit);
            walk_block(accept, visit);
            if let Some(reject) = reject {
                walk_block(reject, visit);
            }
        }
        ExprKind::Match { scrutinee, arms } => {
            walk_expr(scrutinee, visit);
            for arm in arms {
                if let Some(guard) = &arm.guard {
                    walk_expr(guard, visit);
                }
                walk_block(&arm.body, visit);
            }
        }
        ExprKind::Block(block) => walk_block(block, visit),
        ExprKind::Int { .. }
        | ExprKind::Float { .. }
        | ExprKind::Bool(_)
        | ExprKind::Var(_)
        | ExprKind::Constant(_)
        | ExprKind::Extent { .. }
        | ExprKind::Mistake => {}
    }
}
