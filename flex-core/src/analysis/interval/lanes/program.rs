//! Code on lanes: instructions in three parts, for rows, columns, and where they meet.

use std::sync::Arc;

use super::super::IntRange;
use super::Lanes;
use crate::capture::Array;
use crate::ir::{BinaryOp, Input, Type, UnaryOp};

/// What the boxes in the lanes of an instruction have apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Their queries; nothing in it depends on the key.
    Rows,
    /// Their keys; nothing in it depends on the query.
    Columns,
    /// Their keys, all with the same queries.
    Meeting,
}

/// Where an instruction finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Constant(u16),
    /// The result of an earlier instruction of the same part.
    Own(u16),
    /// An exported result of the rows or columns, read where they meet.
    Row(u16),
    Column(u16),
}

/// Operands an instruction has at most: a linear form's terms.
pub(super) const OPERANDS: usize = 6;

/// An operation on sixteen ranges. `independent` says that any two values of the operands occur together, `within` bounds
/// the values in the whole region.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Input(Input),
    Load {
        array: Arc<Array>,
        independent: bool,
    },
    /// `constant + Σ factor · operand`.
    Linear {
        constant: i32,
        factors: [i32; OPERANDS],
        independent: bool,
    },
    Add {
        independent: bool,
    },
    Sub {
        independent: bool,
    },
    Min {
        independent: bool,
    },
    Max {
        independent: bool,
    },
    Neg,
    Abs,
    /// Of any integer by a positive constant.
    Div {
        divisor: i32,
    },
    /// Of integers that are not negative, by a positive constant.
    Rem {
        divisor: i32,
    },
    /// Any other operation of integers, lane by lane.
    Unary {
        op: UnaryOp,
        ty: Type,
        within: IntRange,
    },
    Binary {
        op: BinaryOp,
        ty: Type,
        amount: Type,
        within: IntRange,
        independent: bool,
    },
    FromBool,
    SelectInt,
    Ge {
        independent: bool,
    },
    Gt {
        independent: bool,
    },
    Eq {
        independent: bool,
    },
    Not,
    And {
        independent: bool,
    },
    Or {
        independent: bool,
    },
    Select {
        independent: [bool; 2],
    },
}

#[derive(Clone, Debug)]
pub(super) struct Instr {
    pub(super) op: Op,
    pub(super) operands: [Source; OPERANDS],
}

/// A mask as code on lanes. Holds on the boxes of one region.
#[derive(Clone, Debug)]
pub(crate) struct LaneProgram {
    pub(super) constants: Vec<Lanes>,
    /// Result `i` of a part is that of instruction `i`.
    pub(super) rows: Vec<Instr>,
    pub(super) columns: Vec<Instr>,
    pub(super) meeting: Vec<Instr>,
    /// The results that are read where rows and columns meet.
    pub(super) row_exports: Vec<u16>,
    pub(super) column_exports: Vec<u16>,
    pub(super) root: Source,
    /// The constants false and true.
    pub(super) truths: [Source; 2],
    /// The conditions that may be known where the code is [`Specialised`](super::specialise::Specialised).
    pub(super) watched: Vec<Source>,
    /// Whether the columns depend on the batch and on the head.
    pub(crate) columns_depend_on: (bool, bool),
}
