//! Instructions on single values: what is the same for a whole head.

use super::compile::{BATCH, HEAD};
use super::instr::{Instr, Op, Operand};
use crate::capture::Capture;
use crate::ir::semantics::{self, Value};
use crate::ir::{Scalar, Type};

fn value(ty: Type, bits: u32) -> Value<f32> {
    match ty {
        Type::Bool => Value::Bool(bits != 0),
        Type::I32 => Value::I32(bits as i32),
        Type::U32 => Value::U32(bits),
        Type::F32 => Value::Real(f32::from_bits(bits)),
    }
}

fn bits(value: Value<f32>) -> u32 {
    Scalar::from(value).bits()
}

/// The result of one operation.
pub(super) fn evaluate(op: Op, [a, b, c]: [u32; 3], captures: &[Capture]) -> u32 {
    match op {
        Op::Unary(op, ty) => bits(semantics::unary(op, value(ty, a))),
        Op::Binary(op, ty) => {
            let divides = op.is_division() && ty.is_integer();
            let b = if divides && b == 0 { 1 } else { b };
            semantics::binary(op, value(ty, a), value(ty, b)).map_or(0, bits)
        }
        Op::Select => {
            if a != 0 {
                b
            } else {
                c
            }
        }
        Op::Cast(from, to) => bits(semantics::cast(to, value(from, a))),
        Op::Outside(len) => (a >= len).into(),
        Op::IsZero => (a == 0).into(),
        Op::Offset { len } => a.wrapping_mul(len).wrapping_add(b.min(len - 1)),
        Op::Difference => (a.wrapping_sub(b) as i32 as f32).to_bits(),
        Op::MulAdd => (f32::from_bits(a) * f32::from_bits(b) + f32::from_bits(c)).to_bits(),
        Op::SoftCap => (f32::from_bits(c) * (f32::from_bits(a) / f32::from_bits(b)).tanh()).to_bits(),
        Op::Load(capture) => {
            let element = captures[capture.index()].array().and_then(|array| array.get(a as usize));
            element.map_or(0, Scalar::bits)
        }
    }
}

/// Runs instructions whose operands are constants and scalar registers.
pub(super) fn run(code: &[Instr], registers: &mut [u32], captures: &[Capture]) {
    for instr in code {
        let operands = [instr.a, instr.b, instr.c].map(|operand| match operand {
            Operand::Const(bits) => bits,
            Operand::Scalar(r) => registers[r as usize],
            Operand::Row(_) | Operand::Column(_) | Operand::Element(_) => 0,
        });
        registers[instr.dst as usize] = evaluate(instr.op, operands, captures);
    }
}

/// Sets the inputs b and h.
pub(super) fn set_inputs(registers: &mut [u32], b: i32, h: i32) {
    registers[BATCH as usize] = b as u32;
    registers[HEAD as usize] = h as u32;
}
