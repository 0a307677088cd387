//! Instructions on lanes: one value for every key of a tile. Every operation is a loop without branches over slices,
//! compiled once for each instruction set.

use std::ops::Range;

use super::compile::SCORE;
use super::instr::{Instr, Op, Operand};
use super::math::{self, Fma};
use super::scalar;
use crate::capture::{ArrayData, Capture};
use crate::ir::{BinaryOp, CaptureId, Type, UnaryOp};
use crate::isa::{Available, InstructionSet};

/// Lanes are worked on in groups of this many.
pub(super) const GROUP: usize = 16;

/// The most rows that go through an instruction together: what it costs to choose an instruction is shared by them.
pub(super) const ROWS: usize = 8;

/// The registers of lanes, and what instructions read beside them.
pub(super) struct Machine<'a> {
    /// Row i of register r has lanes `(r * ROWS + i) * stride..` of length `stride`.
    pub(super) registers: &'a mut [u32],
    pub(super) stride: usize,
    /// Row i has scalar registers `i * scalars_stride..`.
    pub(super) scalars: &'a [u32],
    pub(super) scalars_stride: usize,
    pub(super) captures: &'a [Capture],
    /// Whether transcendental functions are those of the interpreter, bit by bit.
    pub(super) exact: bool,
    /// What the score registers are loaded from.
    pub(super) scores: Option<Scores<'a>>,
}

/// Rows of scores, which begin `row_stride` apart and belong to the lanes from `first` on.
pub(super) struct Scores<'a> {
    pub(super) scores: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) lanes: Range<usize>,
    pub(super) factor: f32,
}

/// Runs instructions on some lanes of the first rows; the range starts and ends at multiples of [`GROUP`].
pub(super) fn run(isa: Available, code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
    if code.is_empty() && machine.scores.is_none() || range.is_empty() {
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
    Lanes(&'a [u32]),
}

#[inline(always)]
fn execute<A: Fma>(code: &[Instr], machine: &mut Machine, rows: usize, range: Range<usize>) {
    if let Some(Scores { scores, row_stride, lanes, factor }) = &machine.scores {
        for row in 0..rows {
            let register = (SCORE as usize * ROWS + row) * machine.stride;
            let inputs = &mut machine.registers[register..][lanes.clone()];
            for (input, score) in inputs.iter_mut().zip(&scores[row * row_stride..]) {
                *input = (score * factor).to_bits();
            }
        }
    }
    for instr in code {
        // Operands have smaller numbers than the result.
        let (before, rest) = machine.registers.split_at_mut(instr.dst as usize * ROWS * machine.stride);
        let mut rows = Rows {
            before,
            dst: rest,
            stride: machine.stride,
            scalars: machine.scalars,
            scalars_stride: machine.scalars_stride,
            rows,
            range: range.clone(),
            operands: [instr.a, instr.b, instr.c],
        };
        match instr.op {
            Op::Unary(op, ty) => unary::<A>(op, ty, &mut rows, machine.exact),
            Op::Binary(op, ty) => binary(op, ty, &mut rows),
            Op::Select => rows.each(|dst, [a, b, c]| select(dst, a, b, c)),
            Op::Cast(from, to) => cast(from, to, &mut rows),
            Op::Outside(len) => map(&mut rows, |x| (x >= len).into()),
            Op::IsZero => map(&mut rows, |x| (x == 0).into()),
            Op::Offset { len } => {
                zip(&mut rows, |offset, index| offset.wrapping_mul(len).wrapping_add(index.min(len - 1)))
            }
            Op::Load(capture) => load(&mut rows, capture, machine.captures),
            Op::Difference => zip(&mut rows, |a, b| (a.wrapping_sub(b) as i32 as f32).to_bits()),
            Op::MulAdd => rows.each(|dst, [a, b, c]| mul_add(dst, a, b, c)),
        }
    }
}

/// The result and operands of one instruction, for all its rows.
struct Rows<'a> {
    before: &'a [u32],
    dst: &'a mut [u32],
    stride: usize,
    scalars: &'a [u32],
    scalars_stride: usize,
    rows: usize,
    range: Range<usize>,
    operands: [Operand; 3],
}

impl<'a> Rows<'a> {
    /// Calls `f` with the lanes of the result and the operands, row by row.
    #[inline(always)]
    fn each(&mut self, f: impl Fn(&mut [u32], [Source; 3])) {
        let [a, b, c] = self.operands;
        for row in 0..self.rows {
            let sources = [self.source(row, a), self.source(row, b), self.source(row, c)];
            let dst = &mut self.dst[row * self.stride..][self.range.clone()];
            f(dst, sources);
        }
    }

    #[inline(always)]
    fn source(&self, row: usize, operand: Operand) -> Source<'a> {
        let lanes = |index: usize| Source::Lanes(&self.before[index * self.stride..][self.range.clone()]);
        match operand {
            Operand::Const(bits) => Source::Splat(bits),
            Operand::Scalar(r) => Source::Splat(self.scalars[row * self.scalars_stride + r as usize]),
            Operand::Column(r) => lanes(r as usize * ROWS),
            Operand::Element(r) => lanes(r as usize * ROWS + row),
        }
    }
}

#[inline(always)]
fn map(rows: &mut Rows, f: impl Fn(u32) -> u32) {
    rows.each(|dst, [a, ..]| map_row(dst, a, &f));
}

#[inline(always)]
fn map_f32(rows: &mut Rows, f: impl Fn(f32) -> f32) {
    map(rows, |x| f(f32::from_bits(x)).to_bits());
}

#[inline(always)]
fn zip(rows: &mut Rows, f: impl Fn(u32, u32) -> u32) {
    rows.each(|dst, [a, b, _]| zip_row(dst, a, b, &f));
}

#[inline(always)]
fn zip_i32(rows: &mut Rows, f: impl Fn(i32, i32) -> i32) {
    zip(rows, |x, y| f(x as i32, y as i32) as u32);
}

#[inline(always)]
fn zip_f32(rows: &mut Rows, f: impl Fn(f32, f32) -> f32) {
    zip(rows, |x, y| f(f32::from_bits(x), f32::from_bits(y)).to_bits());
}

#[inline(always)]
fn map_row(dst: &mut [u32], a: Source, f: impl Fn(u32) -> u32) {
    match a {
        Source::Splat(a) => dst.fill(f(a)),
        Source::Lanes(a) => {
            for (d, &a) in dst.iter_mut().zip(a) {
                *d = f(a);
            }
        }
    }
}

#[inline(always)]
fn zip_row(dst: &mut [u32], a: Source, b: Source, f: impl Fn(u32, u32) -> u32) {
    match (a, b) {
        (Source::Splat(a), b) => map_row(dst, b, |b| f(a, b)),
        (a, Source::Splat(b)) => map_row(dst, a, |a| f(a, b)),
        (Source::Lanes(a), Source::Lanes(b)) => {
            for (d, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
                *d = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn select(dst: &mut [u32], condition: Source, accept: Source, reject: Source) {
    let condition = match condition {
        Source::Lanes(lanes) => lanes,
        Source::Splat(holds) => return map_row(dst, if holds != 0 { accept } else { reject }, |x| x),
    };
    match (accept, reject) {
        (Source::Splat(a), r) => zip_row(dst, Source::Lanes(condition), r, |c, r| if c != 0 { a } else { r }),
        (a, Source::Splat(r)) => zip_row(dst, Source::Lanes(condition), a, |c, a| if c != 0 { a } else { r }),
        (Source::Lanes(accept), Source::Lanes(reject)) => {
            let sources = accept.iter().zip(reject);
            for (d, (&c, (&a, &r))) in dst.iter_mut().zip(condition.iter().zip(sources)) {
                *d = if c != 0 { a } else { r };
            }
        }
    }
}

/// `a · b + c`, each rounded: the bits of the two operations it stands for.
#[inline(always)]
fn mul_add(dst: &mut [u32], a: Source, b: Source, c: Source) {
    let f = f32::from_bits;
    match (a, b, c) {
        (Source::Splat(a), Source::Lanes(b), Source::Lanes(c))
        | (Source::Lanes(b), Source::Splat(a), Source::Lanes(c)) => {
            for (d, (&b, &c)) in dst.iter_mut().zip(b.iter().zip(c)) {
                *d = (f(a) * f(b) + f(c)).to_bits();
            }
        }
        (a, b, Source::Splat(c)) => zip_row(dst, a, b, |a, b| (f(a) * f(b) + f(c)).to_bits()),
        (Source::Splat(a), Source::Splat(b), c) => map_row(dst, c, |c| (f(a) * f(b) + f(c)).to_bits()),
        (Source::Lanes(a), Source::Lanes(b), Source::Lanes(c)) => {
            for (d, (&a, (&b, &c))) in dst.iter_mut().zip(a.iter().zip(b.iter().zip(c))) {
                *d = (f(a) * f(b) + f(c)).to_bits();
            }
        }
    }
}

#[inline(always)]
fn cast(from: Type, to: Type, rows: &mut Rows) {
    match (from, to) {
        (Type::I32, Type::F32) => map(rows, |x| (x as i32 as f32).to_bits()),
        (Type::U32, Type::F32) => map(rows, |x| (x as f32).to_bits()),
        (Type::Bool, Type::F32) => map(rows, |x| (x as f32).to_bits()),
        (Type::F32, Type::I32) => map(rows, |x| f32::from_bits(x) as i32 as u32),
        (Type::F32, Type::U32) => map(rows, |x| f32::from_bits(x) as u32),
        // bool, i32 and u32 have the same bits.
        _ => map(rows, |x| x),
    }
}

#[inline(always)]
fn unary<A: Fma>(op: UnaryOp, ty: Type, rows: &mut Rows, exact: bool) {
    use UnaryOp::*;
    match (op, ty) {
        (Neg, Type::F32) => map_f32(rows, |x| -x),
        (Neg, _) => map(rows, u32::wrapping_neg),
        (Not, Type::Bool) => map(rows, |x| x ^ 1),
        (Not, _) => map(rows, |x| !x),
        (Abs, Type::F32) => map_f32(rows, f32::abs),
        (Abs, _) => map(rows, |x| (x as i32).wrapping_abs() as u32),
        (Signum, Type::F32) => map_f32(rows, f32::signum),
        (Signum, _) => map(rows, |x| (x as i32).signum() as u32),
        (Sqrt, _) => map_f32(rows, f32::sqrt),
        (Floor, _) => map_f32(rows, f32::floor),
        (Ceil, _) => map_f32(rows, f32::ceil),
        (Round, _) => map_f32(rows, f32::round),
        (Trunc, _) => map_f32(rows, f32::trunc),
        (IsNan, _) => map(rows, |x| f32::from_bits(x).is_nan().into()),
        (CountOnes, _) => map(rows, u32::count_ones),
        (LeadingZeros, _) => map(rows, u32::leading_zeros),
        (TrailingZeros, _) => map(rows, u32::trailing_zeros),
        (op, ty) if exact => map(rows, |x| scalar::evaluate(Op::Unary(op, ty), [x, 0, 0], &[])),
        (Exp, _) => map_f32(rows, math::exp::<A>),
        (Exp2, _) => map_f32(rows, math::exp2::<A>),
        (Ln, _) => map_f32(rows, math::ln::<A>),
        (Log2, _) => map_f32(rows, math::log2::<A>),
        (Tanh, _) => map_f32(rows, math::tanh::<A>),
        (Sin, _) => trigonometric(rows, math::sin::<A>, f32::sin),
        (Cos, _) => trigonometric(rows, math::cos::<A>, f32::cos),
    }
}

/// The lanes that are too large for the vector function are computed again, one by one.
#[inline(always)]
fn trigonometric(rows: &mut Rows, f: impl Fn(f32) -> f32, precise: impl Fn(f32) -> f32) {
    map_f32(rows, f);
    let large = |x: u32| f32::from_bits(x).abs() > math::TRIG_RANGE;
    rows.each(|dst, [a, ..]| match a {
        Source::Lanes(a) if a.iter().fold(false, |any, &x| any | large(x)) => {
            for (d, &x) in dst.iter_mut().zip(a).filter(|(_, x)| large(**x)) {
                *d = precise(f32::from_bits(x)).to_bits();
            }
        }
        _ => {}
    });
}

/// The quotient towards zero: exact, since f64 has more than twice the bits.
#[inline(always)]
fn quotient(a: i32, b: i32) -> i32 {
    let b = if b == 0 { 1 } else { b };
    (f64::from(a) / f64::from(b)) as i64 as i32
}

#[inline(always)]
fn remainder(a: i32, b: i32) -> i32 {
    let b = if b == 0 { 1 } else { b };
    a.wrapping_sub(quotient(a, b).wrapping_mul(b))
}

#[inline(always)]
fn quotient_u32(a: u32, b: u32) -> u32 {
    let b = if b == 0 { 1 } else { b };
    (f64::from(a) / f64::from(b)) as i64 as u32
}

#[inline(always)]
fn binary(op: BinaryOp, ty: Type, rows: &mut Rows) {
    use BinaryOp::*;
    match (op, ty) {
        (Add, Type::F32) => zip_f32(rows, |x, y| x + y),
        (Sub, Type::F32) => zip_f32(rows, |x, y| x - y),
        (Mul, Type::F32) => zip_f32(rows, |x, y| x * y),
        (Div, Type::F32) => zip_f32(rows, |x, y| x / y),
        (Rem, Type::F32) => zip_f32(rows, |x, y| x % y),
        (Min, Type::F32) => zip_f32(rows, f32::min),
        (Max, Type::F32) => zip_f32(rows, f32::max),
        (Pow, _) => zip_f32(rows, f32::powf),
        (Add, _) => zip(rows, u32::wrapping_add),
        (Sub, _) => zip(rows, u32::wrapping_sub),
        (Mul, _) => zip(rows, u32::wrapping_mul),
        (Div, Type::I32) => zip_i32(rows, quotient),
        (Rem, Type::I32) => zip_i32(rows, remainder),
        (DivEuclid, Type::I32) => zip_i32(rows, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let step = if y > 0 { -1 } else { 1 };
            quotient(x, y).wrapping_add(if remainder(x, y) < 0 { step } else { 0 })
        }),
        (RemEuclid, Type::I32) => zip_i32(rows, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let r = remainder(x, y);
            r.wrapping_add(if r < 0 { y.wrapping_abs() } else { 0 })
        }),
        (Div | DivEuclid, _) => zip(rows, quotient_u32),
        (Rem | RemEuclid, _) => {
            zip(rows, |x, y| x.wrapping_sub(quotient_u32(x, y).wrapping_mul(if y == 0 { 1 } else { y })));
        }
        (Min, Type::I32) => zip_i32(rows, i32::min),
        (Max, Type::I32) => zip_i32(rows, i32::max),
        (Min, _) => zip(rows, u32::min),
        (Max, _) => zip(rows, u32::max),
        (And, _) => zip(rows, |x, y| x & y),
        (Or, _) => zip(rows, |x, y| x | y),
        (Xor, _) => zip(rows, |x, y| x ^ y),
        (Shl, _) => zip(rows, u32::wrapping_shl),
        (Shr, Type::I32) => zip(rows, |x, y| (x as i32).wrapping_shr(y) as u32),
        (Shr, _) => zip(rows, u32::wrapping_shr),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::F32) => compare(op, rows, f32::from_bits),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::I32) => compare(op, rows, |x| x as i32),
        (Eq | Ne | Lt | Le | Gt | Ge, _) => compare(op, rows, |x| x),
    }
}

#[inline(always)]
fn compare<T: PartialOrd>(op: BinaryOp, rows: &mut Rows, t: impl Fn(u32) -> T) {
    match op {
        BinaryOp::Eq => zip(rows, |x, y| (t(x) == t(y)).into()),
        BinaryOp::Ne => zip(rows, |x, y| (t(x) != t(y)).into()),
        BinaryOp::Lt => zip(rows, |x, y| (t(x) < t(y)).into()),
        BinaryOp::Le => zip(rows, |x, y| (t(x) <= t(y)).into()),
        BinaryOp::Gt => zip(rows, |x, y| (t(x) > t(y)).into()),
        _ => zip(rows, |x, y| (t(x) >= t(y)).into()),
    }
}

#[inline(always)]
fn load(rows: &mut Rows, capture: CaptureId, captures: &[Capture]) {
    let Some(array) = captures[capture.index()].array() else { return map(rows, |_| 0) };
    match array.data() {
        ArrayData::Bool(data) => rows.each(|dst, [offsets, ..]| gather(dst, offsets, data, |x| x.into())),
        ArrayData::I32(data) => rows.each(|dst, [offsets, ..]| gather(dst, offsets, data, |x| x as u32)),
        ArrayData::U32(data) => rows.each(|dst, [offsets, ..]| gather(dst, offsets, data, |x| x)),
        ArrayData::F32(data) => rows.each(|dst, [offsets, ..]| gather(dst, offsets, data, f32::to_bits)),
    }
}

/// Elements at any offsets; neighbouring ones, forwards (`doc[kv]`) or backwards (`bias[q - kv]`), are copied.
#[inline(always)]
fn gather<T: Copy>(dst: &mut [u32], offsets: Source, data: &[T], bits: impl Fn(T) -> u32) {
    let element = |offset: u32| data.get(offset as usize).map_or(0, |&x| bits(x));
    let offsets = match offsets {
        Source::Splat(offset) => return dst.fill(element(offset)),
        Source::Lanes(offsets) => offsets,
    };
    for (d, o) in dst.as_chunks_mut::<GROUP>().0.iter_mut().zip(offsets.as_chunks::<GROUP>().0) {
        let first = o[0] as usize;
        let (mut rising, mut falling) = (true, true);
        for i in 0..GROUP {
            rising &= o[i] == o[0].wrapping_add(i as u32);
            falling &= o[i] == o[0].wrapping_sub(i as u32);
        }
        let ascending = if rising { data.get(first..first + GROUP) } else { None };
        let descending =
            if falling && first + 1 >= GROUP { data.get(first + 1 - GROUP..=first) } else { None };
        if let Some(source) = ascending {
            for i in 0..GROUP {
                d[i] = bits(source[i]);
            }
        } else if let Some(source) = descending {
            for i in 0..GROUP {
                d[i] = bits(source[GROUP - 1 - i]);
            }
        } else {
            for i in 0..GROUP {
                d[i] = element(o[i]);
            }
        }
    }
}
