//! Instructions on lanes: one value for every key of a tile. Every operation is a loop without branches over slices,
//! compiled once for each instruction set.

use std::ops::Range;

use super::instr::{Instr, Op, Operand};
use super::math::{self, Fma};
use super::scalar;
use crate::capture::{ArrayData, Capture};
use crate::ir::{BinaryOp, CaptureId, Type, UnaryOp};
use crate::isa::InstructionSet;

/// Lanes are worked on in groups of this many.
pub(super) const GROUP: usize = 16;

/// The registers of lanes, and what instructions read beside them.
pub(super) struct Machine<'a> {
    /// Register r has lanes `r * stride..(r + 1) * stride`.
    pub(super) registers: &'a mut [u32],
    pub(super) stride: usize,
    pub(super) scalars: &'a [u32],
    pub(super) captures: &'a [Capture],
    /// Whether transcendental functions are those of the interpreter, bit by bit.
    pub(super) exact: bool,
}

/// Runs instructions on some lanes; the range starts and ends at multiples of [`GROUP`].
pub(super) fn run(isa: InstructionSet, code: &[Instr], machine: &mut Machine, range: Range<usize>) {
    if code.is_empty() || range.is_empty() {
        return;
    }
    match isa.or_available() {
        InstructionSet::Portable => execute::<math::Separate>(code, machine, range),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `or_available` has found the features.
        InstructionSet::Avx2 => unsafe { x86::run_avx2(code, machine, range) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 => unsafe { x86::run_avx512(code, machine, range) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => execute::<math::Separate>(code, machine, range),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2(code: &[Instr], machine: &mut Machine, range: Range<usize>) {
        execute::<math::Fused>(code, machine, range);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")]
    pub(super) fn run_avx512(code: &[Instr], machine: &mut Machine, range: Range<usize>) {
        execute::<math::Fused>(code, machine, range);
    }
}

/// An operand of a lane instruction.
#[derive(Clone, Copy)]
enum Source<'a> {
    Splat(u32),
    Lanes(&'a [u32]),
}

#[inline(always)]
fn execute<A: Fma>(code: &[Instr], machine: &mut Machine, range: Range<usize>) {
    let stride = machine.stride;
    for instr in code {
        // Operands have smaller numbers than the result.
        let (before, rest) = machine.registers.split_at_mut(instr.dst as usize * stride);
        let dst = &mut rest[range.clone()];
        let a = source(instr.a, before, stride, &range, machine.scalars);
        let b = source(instr.b, before, stride, &range, machine.scalars);
        let c = source(instr.c, before, stride, &range, machine.scalars);
        match instr.op {
            Op::Unary(op, ty) => unary::<A>(op, ty, dst, a, machine.exact),
            Op::Binary(op, ty) => binary(op, ty, dst, a, b),
            Op::Select => select(dst, a, b, c),
            Op::Cast(from, to) => cast(from, to, dst, a),
            Op::Outside(len) => map(dst, a, |x| (x >= len).into()),
            Op::IsZero => map(dst, a, |x| (x == 0).into()),
            Op::Offset { len } => {
                zip(dst, a, b, |offset, index| offset.wrapping_mul(len).wrapping_add(index.min(len - 1)))
            }
            Op::Load(capture) => load(dst, a, capture, machine.captures),
        }
    }
}

#[inline(always)]
fn source<'a>(
    operand: Operand,
    lanes: &'a [u32],
    stride: usize,
    range: &Range<usize>,
    scalars: &[u32],
) -> Source<'a> {
    match operand {
        Operand::Const(bits) => Source::Splat(bits),
        Operand::Scalar(r) => Source::Splat(scalars[r as usize]),
        Operand::Lanes(r) => Source::Lanes(&lanes[r as usize * stride..][range.start..range.end]),
    }
}

#[inline(always)]
fn map(dst: &mut [u32], a: Source, f: impl Fn(u32) -> u32) {
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
fn map_f32(dst: &mut [u32], a: Source, f: impl Fn(f32) -> f32) {
    map(dst, a, |x| f(f32::from_bits(x)).to_bits());
}

#[inline(always)]
fn zip(dst: &mut [u32], a: Source, b: Source, f: impl Fn(u32, u32) -> u32) {
    match (a, b) {
        (Source::Splat(a), b) => map(dst, b, |b| f(a, b)),
        (a, Source::Splat(b)) => map(dst, a, |a| f(a, b)),
        (Source::Lanes(a), Source::Lanes(b)) => {
            for (d, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
                *d = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn zip_i32(dst: &mut [u32], a: Source, b: Source, f: impl Fn(i32, i32) -> i32) {
    zip(dst, a, b, |x, y| f(x as i32, y as i32) as u32);
}

#[inline(always)]
fn zip_f32(dst: &mut [u32], a: Source, b: Source, f: impl Fn(f32, f32) -> f32) {
    zip(dst, a, b, |x, y| f(f32::from_bits(x), f32::from_bits(y)).to_bits());
}

#[inline(always)]
fn select(dst: &mut [u32], condition: Source, accept: Source, reject: Source) {
    let condition = match condition {
        Source::Lanes(lanes) => lanes,
        Source::Splat(holds) => return map(dst, if holds != 0 { accept } else { reject }, |x| x),
    };
    match (accept, reject) {
        (Source::Splat(a), r) => zip(dst, Source::Lanes(condition), r, |c, r| if c != 0 { a } else { r }),
        (a, Source::Splat(r)) => zip(dst, Source::Lanes(condition), a, |c, a| if c != 0 { a } else { r }),
        (Source::Lanes(accept), Source::Lanes(reject)) => {
            let sources = accept.iter().zip(reject);
            for (d, (&c, (&a, &r))) in dst.iter_mut().zip(condition.iter().zip(sources)) {
                *d = if c != 0 { a } else { r };
            }
        }
    }
}

#[inline(always)]
fn cast(from: Type, to: Type, dst: &mut [u32], a: Source) {
    match (from, to) {
        (Type::I32, Type::F32) => map(dst, a, |x| (x as i32 as f32).to_bits()),
        (Type::U32, Type::F32) => map(dst, a, |x| (x as f32).to_bits()),
        (Type::Bool, Type::F32) => map(dst, a, |x| (x as f32).to_bits()),
        (Type::F32, Type::I32) => map(dst, a, |x| f32::from_bits(x) as i32 as u32),
        (Type::F32, Type::U32) => map(dst, a, |x| f32::from_bits(x) as u32),
        // bool, i32 and u32 have the same bits.
        _ => map(dst, a, |x| x),
    }
}

#[inline(always)]
fn unary<A: Fma>(op: UnaryOp, ty: Type, dst: &mut [u32], a: Source, exact: bool) {
    use UnaryOp::*;
    match (op, ty) {
        (Neg, Type::F32) => map_f32(dst, a, |x| -x),
        (Neg, _) => map(dst, a, u32::wrapping_neg),
        (Not, Type::Bool) => map(dst, a, |x| x ^ 1),
        (Not, _) => map(dst, a, |x| !x),
        (Abs, Type::F32) => map_f32(dst, a, f32::abs),
        (Abs, _) => map(dst, a, |x| (x as i32).wrapping_abs() as u32),
        (Signum, Type::F32) => map_f32(dst, a, f32::signum),
        (Signum, _) => map(dst, a, |x| (x as i32).signum() as u32),
        (Sqrt, _) => map_f32(dst, a, f32::sqrt),
        (Floor, _) => map_f32(dst, a, f32::floor),
        (Ceil, _) => map_f32(dst, a, f32::ceil),
        (Round, _) => map_f32(dst, a, f32::round),
        (Trunc, _) => map_f32(dst, a, f32::trunc),
        (IsNan, _) => map(dst, a, |x| f32::from_bits(x).is_nan().into()),
        (CountOnes, _) => map(dst, a, u32::count_ones),
        (LeadingZeros, _) => map(dst, a, u32::leading_zeros),
        (TrailingZeros, _) => map(dst, a, u32::trailing_zeros),
        (op, ty) if exact => map(dst, a, |x| scalar::evaluate(Op::Unary(op, ty), [x, 0, 0], &[])),
        (Exp, _) => map_f32(dst, a, math::exp::<A>),
        (Exp2, _) => map_f32(dst, a, math::exp2::<A>),
        (Ln, _) => map_f32(dst, a, math::ln::<A>),
        (Log2, _) => map_f32(dst, a, math::log2::<A>),
        (Tanh, _) => map_f32(dst, a, math::tanh::<A>),
        (Sin, _) => trigonometric(dst, a, math::sin::<A>, f32::sin),
        (Cos, _) => trigonometric(dst, a, math::cos::<A>, f32::cos),
    }
}

/// The lanes that are too large for the vector function are computed again, one by one.
#[inline(always)]
fn trigonometric(dst: &mut [u32], a: Source, f: impl Fn(f32) -> f32, precise: impl Fn(f32) -> f32) {
    map_f32(dst, a, f);
    let Source::Lanes(a) = a else { return };
    let large = |x: u32| f32::from_bits(x & !(1 << 31)) > math::TRIG_RANGE || f32::from_bits(x).is_nan();
    if a.iter().any(|&x| large(x)) {
        for (d, &x) in dst.iter_mut().zip(a).filter(|(_, x)| large(**x)) {
            *d = precise(f32::from_bits(x)).to_bits();
        }
    }
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
fn binary(op: BinaryOp, ty: Type, dst: &mut [u32], a: Source, b: Source) {
    use BinaryOp::*;
    match (op, ty) {
        (Add, Type::F32) => zip_f32(dst, a, b, |x, y| x + y),
        (Sub, Type::F32) => zip_f32(dst, a, b, |x, y| x - y),
        (Mul, Type::F32) => zip_f32(dst, a, b, |x, y| x * y),
        (Div, Type::F32) => zip_f32(dst, a, b, |x, y| x / y),
        (Rem, Type::F32) => zip_f32(dst, a, b, |x, y| x % y),
        (Min, Type::F32) => zip_f32(dst, a, b, f32::min),
        (Max, Type::F32) => zip_f32(dst, a, b, f32::max),
        (Pow, _) => zip_f32(dst, a, b, f32::powf),
        (Add, _) => zip(dst, a, b, u32::wrapping_add),
        (Sub, _) => zip(dst, a, b, u32::wrapping_sub),
        (Mul, _) => zip(dst, a, b, u32::wrapping_mul),
        (Div, Type::I32) => zip_i32(dst, a, b, quotient),
        (Rem, Type::I32) => zip_i32(dst, a, b, remainder),
        (DivEuclid, Type::I32) => zip_i32(dst, a, b, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let step = if y > 0 { -1 } else { 1 };
            quotient(x, y).wrapping_add(if remainder(x, y) < 0 { step } else { 0 })
        }),
        (RemEuclid, Type::I32) => zip_i32(dst, a, b, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let r = remainder(x, y);
            r.wrapping_add(if r < 0 { y.wrapping_abs() } else { 0 })
        }),
        (Div | DivEuclid, _) => zip(dst, a, b, quotient_u32),
        (Rem | RemEuclid, _) => {
            zip(dst, a, b, |x, y| {
                x.wrapping_sub(quotient_u32(x, y).wrapping_mul(if y == 0 { 1 } else { y }))
            });
        }
        (Min, Type::I32) => zip_i32(dst, a, b, i32::min),
        (Max, Type::I32) => zip_i32(dst, a, b, i32::max),
        (Min, _) => zip(dst, a, b, u32::min),
        (Max, _) => zip(dst, a, b, u32::max),
        (And, _) => zip(dst, a, b, |x, y| x & y),
        (Or, _) => zip(dst, a, b, |x, y| x | y),
        (Xor, _) => zip(dst, a, b, |x, y| x ^ y),
        (Shl, _) => zip(dst, a, b, u32::wrapping_shl),
        (Shr, Type::I32) => zip(dst, a, b, |x, y| (x as i32).wrapping_shr(y) as u32),
        (Shr, _) => zip(dst, a, b, u32::wrapping_shr),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::F32) => compare(op, dst, a, b, f32::from_bits),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::I32) => compare(op, dst, a, b, |x| x as i32),
        (Eq | Ne | Lt | Le | Gt | Ge, _) => compare(op, dst, a, b, |x| x),
    }
}

#[inline(always)]
fn compare<T: PartialOrd>(op: BinaryOp, dst: &mut [u32], a: Source, b: Source, t: impl Fn(u32) -> T) {
    match op {
        BinaryOp::Eq => zip(dst, a, b, |x, y| (t(x) == t(y)).into()),
        BinaryOp::Ne => zip(dst, a, b, |x, y| (t(x) != t(y)).into()),
        BinaryOp::Lt => zip(dst, a, b, |x, y| (t(x) < t(y)).into()),
        BinaryOp::Le => zip(dst, a, b, |x, y| (t(x) <= t(y)).into()),
        BinaryOp::Gt => zip(dst, a, b, |x, y| (t(x) > t(y)).into()),
        _ => zip(dst, a, b, |x, y| (t(x) >= t(y)).into()),
    }
}

#[inline(always)]
fn load(dst: &mut [u32], offsets: Source, capture: CaptureId, captures: &[Capture]) {
    let Some(array) = captures[capture.index()].array() else { return dst.fill(0) };
    match array.data() {
        ArrayData::Bool(data) => gather(dst, offsets, data, |x| x.into()),
        ArrayData::I32(data) => gather(dst, offsets, data, |x| x as u32),
        ArrayData::U32(data) => gather(dst, offsets, data, |x| x),
        ArrayData::F32(data) => gather(dst, offsets, data, f32::to_bits),
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
