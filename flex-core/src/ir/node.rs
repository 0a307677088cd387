//! The nodes of an expression.

use serde::{Deserialize, Serialize};

use super::{Scalar, Type};

/// A node of an [`Expr`](super::Expr). Operands always have smaller ids than their users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The position in the arena.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A capture of an [`Expr`](super::Expr), by position in its list of captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CaptureId(pub u32);

impl CaptureId {
    /// The position in the list of captures.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an expression is evaluated at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Input {
    /// `b: i32`, the index in the batch.
    Batch,
    /// `h: i32`, the query head.
    Head,
    /// `q: i32`, the position of the query.
    Query,
    /// `kv: i32`, the position of the key.
    Key,
    /// `score: f32`, q·k·scale, or what an earlier score mod made of it.
    Score,
}

impl Input {
    /// All inputs, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Batch, Self::Head, Self::Query, Self::Key, Self::Score];

    /// The type of the input.
    pub const fn ty(self) -> Type {
        match self {
            Self::Score => Type::F32,
            _ => Type::I32,
        }
    }

    /// The name in the textual form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "b",
            Self::Head => "h",
            Self::Query => "q",
            Self::Key => "kv",
            Self::Score => "score",
        }
    }
}

/// Operations on one value. Result type = operand type unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UnaryOp {
    /// `-x`: i32 (wrapping), f32.
    Neg,
    /// `!x`: bool; bitwise on i32 and u32.
    Not,
    /// `x.abs()`: i32 (wrapping, so `i32::MIN` stays), f32.
    Abs,
    /// `x.signum()`: i32, f32 with Rust's meaning (±0.0 → ±1.0, NaN → NaN).
    Signum,
    /// f32.
    Sqrt,
    /// f32.
    Exp,
    /// f32.
    Exp2,
    /// f32.
    Ln,
    /// f32.
    Log2,
    /// f32.
    Sin,
    /// f32.
    Cos,
    /// f32.
    Tanh,
    /// f32.
    Floor,
    /// f32.
    Ceil,
    /// f32, half away from zero.
    Round,
    /// f32, towards zero.
    Trunc,
    /// f32 → bool.
    IsNan,
    /// i32, u32 → u32.
    CountOnes,
    /// i32, u32 → u32.
    LeadingZeros,
    /// i32, u32 → u32.
    TrailingZeros,
}

/// Operations on two values of one type; shifts alone take any integer as the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BinaryOp {
    /// Wrapping on integers.
    Add,
    /// Wrapping on integers.
    Sub,
    /// Wrapping on integers.
    Mul,
    /// Towards zero on integers, wrapping (`i32::MIN / -1` is `i32::MIN`); division by integer zero is a fault.
    Div,
    /// The remainder of [`Div`](Self::Div), with the sign of the left side; C's `fmod` on f32.
    Rem,
    /// Integers only: the quotient that makes the remainder non-negative.
    DivEuclid,
    /// Integers only: the non-negative remainder.
    RemEuclid,
    /// On f32 Rust's `min`: a NaN loses against a number.
    Min,
    /// On f32 Rust's `max`: a NaN loses against a number.
    Max,
    /// `x.powf(y)`, f32 only.
    Pow,
    /// `&` on bool (both sides are evaluated) and integers.
    And,
    /// `|` on bool (both sides are evaluated) and integers.
    Or,
    /// `^` on bool and integers.
    Xor,
    /// Integer `<<`, amount modulo 32.
    Shl,
    /// Integer `>>`, amount modulo 32; arithmetic on i32.
    Shr,
    /// → bool; all types.
    Eq,
    /// → bool; all types.
    Ne,
    /// → bool; numbers and bool.
    Lt,
    /// → bool.
    Le,
    /// → bool.
    Gt,
    /// → bool.
    Ge,
}

impl BinaryOp {
    /// Whether the result is a bool whatever the operands are.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    /// Whether the operation faults on an integer zero on its right side.
    pub const fn is_division(self) -> bool {
        matches!(self, Self::Div | Self::Rem | Self::DivEuclid | Self::RemEuclid)
    }

    /// The comparison of integers or bools that holds where this one does not; other operations are themselves.
    pub const fn negated(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Lt => Self::Ge,
            Self::Le => Self::Gt,
            Self::Gt => Self::Le,
            Self::Ge => Self::Lt,
            other => other,
        }
    }

    /// Whether `a op b` is `b op a` for all values (up to the sign of a zero that `min`/`max` pick).
    pub const fn is_commutative(self) -> bool {
        matches!(
            self,
            Self::Add
                | Self::Mul
                | Self::Min
                | Self::Max
                | Self::And
                | Self::Or
                | Self::Xor
                | Self::Eq
                | Self::Ne
        )
    }
}

/// The indices of a load: as many as the captured view's rank, 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct Indices {
    ids: [NodeId; 4],
    rank: u8,
}

impl Indices {
    /// The indices in the order of the view's axes; `None` unless there are 1 to 4.
    pub fn new(ids: &[NodeId]) -> Option<Self> {
        if !(1..=4).contains(&ids.len()) {
            return None;
        }
        let mut all = [NodeId(0); 4];
        all[..ids.len()].copy_from_slice(ids);
        Some(Self { ids: all, rank: ids.len() as u8 })
    }

    /// The indices, one an axis.
    pub fn as_slice(&self) -> &[NodeId] {
        &self.ids[..self.rank as usize]
    }

    /// The same list with every id replaced.
    pub fn map(mut self, mut f: impl FnMut(NodeId) -> NodeId) -> Self {
        for id in &mut self.ids[..self.rank as usize] {
            *id = f(*id);
        }
        self
    }
}

impl TryFrom<Vec<NodeId>> for Indices {
    type Error = String;
    fn try_from(ids: Vec<NodeId>) -> Result<Self, String> {
        Self::new(&ids).ok_or_else(|| format!("expected 1 to 4 indices of a load, got {}", ids.len()))
    }
}

impl From<Indices> for Vec<NodeId> {
    fn from(indices: Indices) -> Self {
        indices.as_slice().to_vec()
    }
}

/// One operation. An operand is evaluated only where it is needed, so a fault in a part that Rust would not execute
/// does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Node {
    /// A constant.
    Const(Scalar),
    /// An index or the score.
    Input(Input),
    /// A captured scalar.
    Capture(CaptureId),
    /// The length (i32) of one axis of a captured view.
    Extent(CaptureId, u8),
    /// One element of a captured view; an index (i32 or u32) outside its axis is a fault.
    Load(CaptureId, Indices),
    /// An operation on one value.
    Unary(UnaryOp, NodeId),
    /// An operation on two values, both always evaluated.
    Binary(BinaryOp, NodeId, NodeId),
    /// `if condition { accept } else { reject }`: only the chosen branch is evaluated. `a && b` is
    /// `Select { a, b, false }`, `a || b` is `Select { a, true, b }`.
    Select {
        /// Bool.
        condition: NodeId,
        /// The value where the condition holds.
        accept: NodeId,
        /// The value where it does not; of the same type.
        reject: NodeId,
    },
    /// Rust's `as`: float → integer saturates and takes NaN to 0; bool → number gives 0 or 1.
    /// To bool only from bool.
    Cast(Type, NodeId),
    /// `{ let _ = first; then }`: evaluates both, has the value of `then`. Keeps the faults of a `let` whose value is
    /// not (always) used.
    After {
        /// Evaluated for its faults.
        first: NodeId,
        /// The value.
        then: NodeId,
    },
}

impl Node {
    /// The capture that the node reads or measures.
    pub fn capture(&self) -> Option<CaptureId> {
        match *self {
            Self::Capture(id) | Self::Extent(id, _) | Self::Load(id, _) => Some(id),
            _ => None,
        }
    }

    /// Calls `f` with every operand, in the order of evaluation.
    pub fn for_each_operand(&self, mut f: impl FnMut(NodeId)) {
        match self {
            Self::Const(_) | Self::Input(_) | Self::Capture(_) | Self::Extent(..) => {}
            Self::Load(_, indices) => indices.as_slice().iter().copied().for_each(f),
            Self::Unary(_, x) | Self::Cast(_, x) => f(*x),
            Self::Binary(_, a, b) => {
                f(*a);
                f(*b);
            }
            Self::Select { condition, accept, reject } => {
                f(*condition);
                f(*accept);
                f(*reject);
            }
            Self::After { first, then } => {
                f(*first);
                f(*then);
            }
        }
    }

    /// The same node with every operand replaced.
    pub fn map_operands(self, mut f: impl FnMut(NodeId) -> NodeId) -> Self {
        match self {
            Self::Const(_) | Self::Input(_) | Self::Capture(_) | Self::Extent(..) => self,
            Self::Load(capture, indices) => Self::Load(capture, indices.map(f)),
            Self::Unary(op, x) => Self::Unary(op, f(x)),
            Self::Cast(ty, x) => Self::Cast(ty, f(x)),
            Self::Binary(op, a, b) => {
                let a = f(a);
                Self::Binary(op, a, f(b))
            }
            Self::Select { condition, accept, reject } => {
                let condition = f(condition);
                let accept = f(accept);
                Self::Select { condition, accept, reject: f(reject) }
            }
            Self::After { first, then } => {
                let first = f(first);
                Self::After { first, then: f(then) }
            }
        }
    }
}
