//! Instructions on lanes: one value for every key of a tile. Every operation is a loop without branches over slices,
//! compiled once for each instruction set.

use std::ops::Range;

use super::compile::SCORE;
use super::instr::{Instr, Op, Operand};
use super::math::{self, Fma};
use crate::capture::Capture;
use crate::isa::{Available, InstructionSet};

/// Lanes are worked on in groups of this many.
pub(super) const GROUP: usize = 16;

/// The most rows that go through an instruction together: what it costs to choose an instruction is shared by them.
pub(super) const ROWS: usize = 8;

/// Does something for every row with the lanes of the result and of the operands. Not a function that takes a closure: a
/// closure that is not inlined is compiled without the vector instructions.
macro_rules! each_row {
    ($rows:expr, |$dst:ident, $($operand:ident),+| $body:expr) => {
        for row in 0..$rows.rows {
            $(let $operand = $rows.operands.source(row, $rows.instr.$operand);)+
            let $dst = $rows.dst(row);
            $body
        }
    };
}

mod gather;
mod operations;

use gather::load;
use operations::{binary, cast, map, mul_add, select, soft_cap, unary, zip};

/// A group of lanes: whole vectors of every instruction set.
type Group = [u32; GROUP];

/// The registers of one stage, and what its instructions read beside them.
pub(super) struct Machine<'a> {
    /// Row i of register r has lanes `(r * rows_each + i) * stride..` of length `stride`.
    pub(super) registers: &'a mut [u32],
    pub(super) stride: usize,
    /// How many rows a register has.
    pub(super) rows_each: usize,
    pub(super) scalars: &'a [u32],
    pub(super) row_values: RowValues<'a>,
    pub(super) captures: &'a [Capture],
    /// Whether transcendental functions are those of the interpreter, bit by bit.
    pub(super) exact: bool,
    pub(super) scores: Option<Scores<'a>>,
}

/// Where the values of row registers are.
pub(super) enum RowValues<'a> {
    /// The machine's own registers: rows are its lanes.
    Lanes,
    /// Row i of the machine has the values `[r * stride + first + i]`.
    Each {
        /// The row registers.
        values: &'a [u32],
        /// The length of one.
        stride: usize,
        /// The row that the machine's first row is.
        first: usize,
    },
}

/// Rows of scores, `stride` apart, which stand for the score register, and where the results go.
pub(super) struct Scores<'a> {
    pub(super) inputs: &'a [f32],
    pub(super) outputs: &'a mut [f32],
    pub(super) stride: usize,
    /// The instruction that writes them.
    pub(super) last: Option<usize>,
}

/// Runs instructions on some lanes of the first rows; the range starts and ends at multiples of [`GROUP`].
pub(super) fn run(isa: Available, code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
    if code.is_empty() || range.is_empty() {
        return;
    }
    match isa.set() {
        InstructionSet::Portable => execute::<math::Separate>(code, machine, rows, range),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Available` set has been found on this CPU.
        InstructionSet::Avx2 => unsafe { x86::run_avx2(code, machine, rows, range) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::Amx => unsafe {
            x86::run_avx512(code, machine, rows, range)
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => execute::<math::Separate>(code, machine, rows, range),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2(code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
        execute::<math::Fused>(code, machine, rows, range);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")]
    pub(super) fn run_avx512(code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
        execute::<math::Fused>(code, machine, rows, range);
    }
}

/// An operand of a lane instruction.
#[derive(Clone, Copy)]
enum Source<'a> {
    Splat(u32),
    Lanes(&'a [Group]),
}

#[inline(always)]
fn execute<A: Fma>(code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
    for (i, instr) in code.iter().enumerate() {
        let register = machine.stride * machine.rows_each;
        // Operands have smaller numbers than the result.
        let (before, dst) = machine.registers.split_at_mut(instr.dst as usize * register);
        let (mut dst, mut dst_stride, mut inputs) = (dst, machine.stride, None);
        if let Some(scores) = &mut machine.scores {
            inputs = Some((bytemuck::must_cast_slice(scores.inputs), scores.stride));
            if scores.last == Some(i) {
                (dst, dst_stride) = (bytemuck::must_cast_slice_mut(scores.outputs), scores.stride);
            }
        }
        let operands = Operands {
            registers: before,
            stride: machine.stride,
            rows_each: machine.rows_each,
            scalars: machine.scalars,
            row_values: &machine.row_values,
            inputs,
            range: range.clone(),
        };
        let mut rows = Rows { dst, dst_stride, rows, operands, instr: *instr };
        match instr.op {
            Op::Unary(op, ty) => unary::<A>(op, ty, &mut rows, machine.exact),
            Op::Binary(op, ty) => binary::<A>(op, ty, &mut rows),
            Op::Select => each_row!(rows, |dst, a, b, c| select(dst, a, b, c)),
            Op::Cast(from, to) => cast(from, to, &mut rows),
            Op::Outside(len) => map(&mut rows, |x| (x >= len).into()),
            Op::IsZero => map(&mut rows, |x| (x == 0).into()),
            Op::Offset { len } => {
                zip(&mut rows, |offset, index| offset.wrapping_mul(len).wrapping_add(index.min(len - 1)))
            }
            Op::Load(capture) => load(&mut rows, capture, machine.captures),
            Op::Difference => zip(&mut rows, |a, b| (a.wrapping_sub(b) as i32 as f32).to_bits()),
            Op::MulAdd => each_row!(rows, |dst, a, b, c| mul_add(dst, a, b, c)),
            Op::SoftCap => each_row!(rows, |dst, a, b, c| soft_cap::<A>(dst, a, b, c)),
        }
    }
}

/// What the operands of an instruction are looked up in.
struct Operands<'a> {
    registers: &'a [u32],
    stride: usize,
    rows_each: usize,
    scalars: &'a [u32],
    row_values: &'a RowValues<'a>,
    inputs: Option<(&'a [u32], usize)>,
    range: Range<usize>,
}

impl<'a> Operands<'a> {
    #[inline(always)]
    fn source(&self, row: usize, operand: Operand) -> Source<'a> {
        let register = |r: u32, row: usize| {
            let lanes = &self.registers[(r as usize * self.rows_each + row) * self.stride..];
            Source::Lanes(lanes[self.range.clone()].as_chunks().0)
        };
        match (operand, self.row_values, self.inputs) {
            (Operand::Const(bits), ..) => Source::Splat(bits),
            (Operand::Scalar(r), ..) => Source::Splat(self.scalars[r as usize]),
            (Operand::Row(r), RowValues::Lanes, _) => register(r, 0),
            (Operand::Row(r), RowValues::Each { values, stride, first }, _) => {
                Source::Splat(values[r as usize * stride + first + row])
            }
            (Operand::Column(r), ..) => register(r, 0),
            (Operand::Element(SCORE), _, Some((scores, stride))) => {
                Source::Lanes(scores[row * stride..][self.range.clone()].as_chunks().0)
            }
            (Operand::Element(r), ..) => register(r, row),
        }
    }
}

/// One instruction, for all its rows.
struct Rows<'a> {
    dst: &'a mut [u32],
    dst_stride: usize,
    rows: usize,
    operands: Operands<'a>,
    instr: Instr,
}

impl Rows<'_> {
    #[inline(always)]
    fn dst(&mut self, row: usize) -> &mut [Group] {
        self.dst[row * self.dst_stride..][self.operands.range.clone()].as_chunks_mut().0
    }
}
