//! What the operations do to lanes. Plain loops that the compiler vectorises, compiled for several instruction sets.

use super::compile::{Action, Op};
use super::lanes::{GROUP, Lanes, Operand, word};
use crate::capture::{Array, ArrayData};
use crate::ir::{BinaryOp, Type, UnaryOp};

/// Runs operations on `groups` groups of lanes, with the best instructions that the machine has.
pub(super) fn run(ops: &[Op], registers: &mut [Lanes], groups: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the machine has the features, as just seen.
            return unsafe { run_avx512(ops, registers, groups) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the features, as just seen.
            return unsafe { run_avx2(ops, registers, groups) };
        }
    }
    run_plain(ops, registers, groups);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512(ops: &[Op], registers: &mut [Lanes], groups: usize) {
    run_plain(ops, registers, groups);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2(ops: &[Op], registers: &mut [Lanes], groups: usize) {
    run_plain(ops, registers, groups);
}

#[inline(always)]
fn run_plain(ops: &[Op], registers: &mut [Lanes], groups: usize) {
    for op in ops {
        // An operation reads only registers with smaller numbers than its own.
        let (before, rest) = registers.split_at_mut(op.to as usize);
        let to = &mut rest[0].0[..groups * GROUP];
        match &op.action {
            Action::Input(_) => {}
            Action::Unary(op, ty, x) => unary(to, before, *op, *ty, *x),
            Action::Binary(op, ty, a, b) => binary(to, before, *op, *ty, *a, *b),
            Action::Select(c, a, b) => select(to, before, *c, *a, *b),
            Action::Cast(ty, from, x) => cast(to, before, *ty, *from, *x),
            Action::Load(array, indices) => load(to, before, array, indices),
            Action::OutOfBounds(array, indices) => out_of_bounds(to, before, array, indices),
        }
    }
}

/// The lanes of a value that is read: `to.len()` of them, or one for all.
#[inline(always)]
fn read(before: &[Lanes], x: Operand, len: usize) -> Result<&[u32], u32> {
    match x {
        Operand::Lane(register) => Ok(&before[register as usize].0[..len]),
        Operand::Scalar(register) => Err(before[register as usize].0[0]),
    }
}

#[inline(always)]
fn map(to: &mut [u32], before: &[Lanes], x: Operand, f: impl Fn(u32) -> u32) {
    match read(before, x, to.len()) {
        Ok(x) => to.iter_mut().zip(x).for_each(|(to, &x)| *to = f(x)),
        Err(x) => to.fill(f(x)),
    }
}

#[inline(always)]
fn zip(to: &mut [u32], before: &[Lanes], a: Operand, b: Operand, f: impl Fn(u32, u32) -> u32) {
    match (read(before, a, to.len()), read(before, b, to.len())) {
        (Ok(a), Ok(b)) => to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (&a, &b))| *to = f(a, b)),
        (Ok(a), Err(b)) => to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, b)),
        (Err(a), Ok(b)) => to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(a, b)),
        (Err(a), Err(b)) => to.fill(f(a, b)),
    }
}

#[inline(always)]
fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[inline(always)]
fn unary(to: &mut [u32], before: &[Lanes], op: UnaryOp, ty: Type, x: Operand) {
    use UnaryOp::*;
    macro_rules! floats {
        ($f:expr) => {
            map(to, before, x, |x| $f(float(x)).to_bits())
        };
    }
    match (op, ty) {
        (Not, _) => map(to, before, x, |x| !x),
        (Neg, Type::F32) => floats!(|x: f32| -x),
        (Neg, _) => map(to, before, x, u32::wrapping_neg),
        (Abs, Type::F32) => floats!(f32::abs),
        (Abs, _) => map(to, before, x, |x| (x as i32).wrapping_abs() as u32),
        (Signum, Type::F32) => floats!(f32::signum),
        (Signum, _) => map(to, before, x, |x| (x as i32).signum() as u32),
        (CountOnes, _) => map(to, before, x, u32::count_ones),
        (LeadingZeros, _) => map(to, before, x, u32::leading_zeros),
        (TrailingZeros, _) => map(to, before, x, u32::trailing_zeros),
        (IsNan, _) => map(to, before, x, |x| word(float(x).is_nan())),
        (Sqrt, _) => floats!(f32::sqrt),
        (Exp, _) => floats!(f32::exp),
        (Exp2, _) => floats!(f32::exp2),
        (Ln, _) => floats!(f32::ln),
        (Log2, _) => floats!(f32::log2),
        (Sin, _) => floats!(f32::sin),
        (Cos, _) => floats!(f32::cos),
        (Tanh, _) => floats!(f32::tanh),
        (Floor, _) => floats!(f32::floor),
        (Ceil, _) => floats!(f32::ceil),
        (Round, _) => floats!(f32::round),
        (Trunc, _) => floats!(f32::trunc),
    }
}

#[inline(always)]
fn binary(to: &mut [u32], before: &[Lanes], op: BinaryOp, ty: Type, a: Operand, b: Operand) {
    use BinaryOp::*;
    macro_rules! words {
        ($f:expr) => {
            zip(to, before, a, b, $f)
        };
    }
    macro_rules! floats {
        ($f:expr) => {
            zip(to, before, a, b, |a, b| $f(float(a), float(b)).to_bits())
        };
    }
    match (op, ty) {
        (And, _) => words!(|a, b| a & b),
        (Or, _) => words!(|a, b| a | b),
        (Xor, _) => words!(|a, b| a ^ b),
        (Shl, _) => words!(|a: u32, b| a.wrapping_shl(b)),
        (Shr, Type::I32) => words!(|a, b| (a as i32).wrapping_shr(b) as u32),
        (Shr, _) => words!(|a: u32, b| a.wrapping_shr(b)),
        (Div | Rem | DivEuclid | RemEuclid, Type::I32 | Type::U32) => divide(to, before, op, ty, a, b),
        (Add, Type::F32) => floats!(|a: f32, b: f32| a + b),
        (Sub, Type::F32) => floats!(|a: f32, b: f32| a - b),
        (Mul, Type::F32) => floats!(|a: f32, b: f32| a * b),
        (Div, Type::F32) => floats!(|a: f32, b: f32| a / b),
        (Rem | DivEuclid | RemEuclid, _) => floats!(|a: f32, b: f32| a % b),
        (Div, Type::Bool) => {}
        (Min, Type::F32) => floats!(f32::min),
        (Max, Type::F32) => floats!(f32::max),
        (Pow, _) => floats!(f32::powf),
        (Add, _) => words!(u32::wrapping_add),
        (Sub, _) => words!(u32::wrapping_sub),
        (Mul, _) => words!(u32::wrapping_mul),
        (Min, Type::I32) => words!(|a, b| (a as i32).min(b as i32) as u32),
        (Max, Type::I32) => words!(|a, b| (a as i32).max(b as i32) as u32),
        (Min, _) => words!(u32::min),
        (Max, _) => words!(u32::max),
        (Eq | Ne | Lt | Le | Gt | Ge, _) => compare(to, before, op, ty, a, b),
    }
}

#[inline(always)]
fn compare(to: &mut [u32], before: &[Lanes], op: BinaryOp, ty: Type, a: Operand, b: Operand) {
    macro_rules! by {
        ($convert:expr) => {
            match op {
                BinaryOp::Eq => zip(to, before, a, b, |a, b| word($convert(a) == $convert(b))),
                BinaryOp::Ne => zip(to, before, a, b, |a, b| word($convert(a) != $convert(b))),
                BinaryOp::Lt => zip(to, before, a, b, |a, b| word($convert(a) < $convert(b))),
                BinaryOp::Le => zip(to, before, a, b, |a, b| word($convert(a) <= $convert(b))),
                BinaryOp::Gt => zip(to, before, a, b, |a, b| word($convert(a) > $convert(b))),
                _ => zip(to, before, a, b, |a, b| word($convert(a) >= $convert(b))),
            }
        };
    }
    match ty {
        Type::F32 => by!(float),
        Type::I32 => by!(|x| x as i32),
        // Of bools too: all ones is the largest word.
        Type::U32 | Type::Bool => by!(|x: u32| x),
    }
}

#[inline(always)]
fn select(to: &mut [u32], before: &[Lanes], c: Operand, a: Operand, b: Operand) {
    // Copying the one branch first leaves a select between lanes that are there already.
    match read(before, c, to.len()) {
        Err(c) => map(to, before, if c != 0 { a } else { b }, |x| x),
        Ok(c) => {
            map(to, before, b, |x| x);
            match read(before, a, to.len()) {
                Ok(a) => to.iter_mut().zip(c.iter().zip(a)).for_each(|(to, (&c, &a))| *to = c & a | !c & *to),
                Err(a) => to.iter_mut().zip(c).for_each(|(to, &c)| *to = c & a | !c & *to),
            }
        }
    }
}

#[inline(always)]
fn cast(to: &mut [u32], before: &[Lanes], ty: Type, from: Type, x: Operand) {
    match (ty, from) {
        (Type::I32 | Type::U32, Type::Bool) => map(to, before, x, |x| x & 1),
        (Type::F32, Type::Bool) => map(to, before, x, |x| ((x & 1) as f32).to_bits()),
        (Type::I32, Type::F32) => map(to, before, x, |x| float(x) as i32 as u32),
        (Type::U32, Type::F32) => map(to, before, x, |x| float(x) as u32),
        (Type::F32, Type::I32) => map(to, before, x, |x| (x as i32 as f32).to_bits()),
        (Type::F32, Type::U32) => map(to, before, x, |x| (x as f32).to_bits()),
        _ => map(to, before, x, |x| x),
    }
}

/// Integer division. By one divisor for all lanes it is a product in f64, which is exact enough: with half a unit added
/// to the dividend the quotient is at least 2⁻³³ of itself away from every integer.
#[inline(always)]
fn divide(to: &mut [u32], before: &[Lanes], op: BinaryOp, ty: Type, a: Operand, b: Operand) {
    match (read(before, b, to.len()), ty) {
        (Err(0), _) => to.fill(0),
        (Err(d), Type::U32) => {
            let inverse = 1.0 / f64::from(d);
            let quotient = |a: u32| ((f64::from(a) + 0.5) * inverse) as u32;
            match op {
                BinaryOp::Div | BinaryOp::DivEuclid => map(to, before, a, quotient),
                _ => map(to, before, a, |a| a.wrapping_sub(quotient(a).wrapping_mul(d))),
            }
        }
        (Err(d), _) => {
            let d = d as i32;
            let inverse = 1.0 / f64::from(d);
            let quotient = move |a: i32| {
                let a = f64::from(a);
                // −2³¹ / −1 is 2³¹, which wraps as Rust's wrapping_div does.
                ((a + 0.5f64.copysign(a)) * inverse) as i64 as i32
            };
            let remainder = move |a: i32| a.wrapping_sub(quotient(a).wrapping_mul(d));
            let step = d.signum();
            match op {
                BinaryOp::Div => map(to, before, a, |a| quotient(a as i32) as u32),
                BinaryOp::Rem => map(to, before, a, |a| remainder(a as i32) as u32),
                BinaryOp::DivEuclid => map(to, before, a, |a| {
                    let (a, q) = (a as i32, quotient(a as i32));
                    let negative = a.wrapping_sub(q.wrapping_mul(d)) < 0;
                    q.wrapping_sub(if negative { step } else { 0 }) as u32
                }),
                _ => map(to, before, a, |a| {
                    let r = remainder(a as i32);
                    r.wrapping_add(if r < 0 { d.wrapping_abs() } else { 0 }) as u32
                }),
            }
        }
        (Ok(_), Type::U32) => zip(to, before, a, b, |a, b| match op {
            _ if b == 0 => 0,
            BinaryOp::Div | BinaryOp::DivEuclid => a / b,
            _ => a % b,
        }),
        (Ok(_), _) => zip(to, before, a, b, |a, b| {
            let (a, b) = (a as i32, b as i32);
            match op {
                _ if b == 0 => 0,
                BinaryOp::Div => a.wrapping_div(b) as u32,
                BinaryOp::Rem => a.wrapping_rem(b) as u32,
                BinaryOp::DivEuclid => a.wrapping_div_euclid(b) as u32,
                _ => a.wrapping_rem_euclid(b) as u32,
            }
        }),
    }
}

#[inline(always)]
fn load(to: &mut [u32], before: &[Lanes], array: &Array, indices: &[Operand]) {
    if array.is_empty() {
        return to.fill(0);
    }
    match array.data() {
        ArrayData::I32(data) => gather(to, before, array.shape(), indices, data, |v| v as u32),
        ArrayData::U32(data) => gather(to, before, array.shape(), indices, data, |v| v),
        ArrayData::F32(data) => gather(to, before, array.shape(), indices, data, f32::to_bits),
        ArrayData::Bool(data) => gather(to, before, array.shape(), indices, data, word),
    }
}

/// The elements at clamped indices; all axes are at least 1 long.
#[inline(always)]
fn gather<T: Copy>(
    to: &mut [u32],
    before: &[Lanes],
    shape: &[usize],
    indices: &[Operand],
    data: &[T],
    convert: impl Fn(T) -> u32,
) {
    // As unsigned words, negative indices lie past every axis: clamping to the last element serves both ends, since
    // what is loaded there is never used.
    let clamp = |index: u32, axis: usize| (index as usize).min(shape[axis] - 1);
    if let &[index] = indices {
        let top = data.len() - 1;
        match read(before, index, to.len()) {
            Err(index) => to.fill(convert(data[(index as usize).min(top)])),
            Ok(index) => {
                for (to, &i) in to.iter_mut().zip(index) {
                    // SAFETY: clamped to the last element.
                    *to = convert(unsafe { *data.get_unchecked((i as usize).min(top)) });
                }
            }
        }
        return;
    }
    for (lane, to) in to.iter_mut().enumerate() {
        let mut offset = 0;
        for (axis, index) in indices.iter().enumerate() {
            let index = match *index {
                Operand::Lane(register) => before[register as usize].0[lane],
                Operand::Scalar(register) => before[register as usize].0[0],
            };
            offset = offset * shape[axis] + clamp(index, axis);
        }
        *to = convert(data[offset]);
    }
}

#[inline(always)]
fn out_of_bounds(to: &mut [u32], before: &[Lanes], array: &Array, indices: &[(Operand, bool)]) {
    to.fill(0);
    for (&(index, unsigned), &len) in indices.iter().zip(array.shape()) {
        // Axes are at most i32::MAX long, so that a negative i32 is out of bounds as an unsigned word too.
        debug_assert!(unsigned || len <= i32::MAX as usize);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match read(before, index, to.len()) {
            Ok(index) => to.iter_mut().zip(index).for_each(|(to, &i)| *to |= word(i >= len)),
            Err(index) if index >= len => to.fill(u32::MAX),
            Err(_) => {}
        }
    }
}

/// Whether some of the first `len` words are not zero, and whether some are not all ones.
pub(super) fn extremes(words: &[u32]) -> (bool, bool) {
    let (any, all) = words.iter().fold((0, u32::MAX), |(any, all), &w| (any | w, all & w));
    (any != 0, all != u32::MAX)
}
