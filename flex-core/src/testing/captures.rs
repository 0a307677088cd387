//! Random captures: scalars and arrays of every type and rank, with data that makes both useful indices and odd floats.

use std::sync::Arc;

use super::expression::Faults;
use super::grow::Genes;
use crate::capture::{Array, ArrayData, Capture, CaptureValue};
use crate::ir::{Scalar, Type};

const TYPES: [Type; 4] = [Type::I32, Type::F32, Type::U32, Type::Bool];

/// The capture that the genes describe. Axes are short, so that random indices hit; with faults some are empty.
pub(super) fn capture(name: String, seed: u64, max_rank: u8, faults: Faults) -> Capture {
    let mut genes = Genes(seed);
    let ty = TYPES[genes.pick(4)];
    let rank = genes.pick(usize::from(max_rank) + 1);
    let mut random = Random(seed);
    if rank == 0 {
        return Capture { name, value: CaptureValue::Scalar(random.scalar(ty)) };
    }
    let shape: Vec<usize> = (0..rank)
        .map(|_| match (genes.pick(24), faults) {
            (0, Faults::Possible) => 0,
            (n, _) if rank == 1 => 1 + n,
            (n, _) => 1 + n % 6,
        })
        .collect();
    let len = shape.iter().product();
    let data = match ty {
        Type::Bool => ArrayData::Bool((0..len).map(|_| random.next() & 1 == 1).collect()),
        Type::I32 => ArrayData::I32((0..len).map(|_| random.i32()).collect()),
        Type::U32 => ArrayData::U32((0..len).map(|_| random.u32()).collect()),
        Type::F32 => ArrayData::F32((0..len).map(|_| random.f32()).collect()),
    };
    Capture { name, value: CaptureValue::Array(Arc::new(Array::new(shape, data))) }
}

/// A constant of the given type: mostly small, sometimes at the edges of the type.
pub(super) fn literal(ty: Type, seed: u64) -> Scalar {
    Random(seed).scalar(ty)
}

/// Values from a seed, by the splitmix64 sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn scalar(&mut self, ty: Type) -> Scalar {
        match ty {
            Type::Bool => Scalar::Bool(self.next() & 1 == 1),
            Type::I32 => Scalar::I32(self.i32()),
            Type::U32 => Scalar::U32(self.u32()),
            Type::F32 => Scalar::F32(self.f32()),
        }
    }

    fn i32(&mut self) -> i32 {
        let n = self.next();
        match n % 32 {
            0 => [i32::MIN, i32::MAX, i32::MIN + 1, -1][(n >> 5) as usize % 4],
            1..3 => 1i32.wrapping_shl((n >> 5) as u32),
            3..8 => -((n >> 5) as i32 & 15),
            _ => (n >> 5) as i32 & 15,
        }
    }

    fn u32(&mut self) -> u32 {
        let n = self.next();
        match n % 32 {
            0 => u32::MAX - ((n >> 5) as u32 & 1),
            1..3 => 1u32.wrapping_shl((n >> 5) as u32),
            _ => (n >> 5) as u32 & 15,
        }
    }

    fn f32(&mut self) -> f32 {
        let n = self.next();
        const ODD: [f32; 8] =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::MAX, 1e-40];
        match n % 32 {
            0 => ODD[(n >> 5) as usize % ODD.len()],
            1..4 => [0.0, -0.0, 1.0, -1.0, 2.0, 0.5][(n >> 5) as usize % 6],
            4..8 => ((n >> 5) as i32 & 15) as f32,
            _ => ((n >> 40) as f32 / (1 << 24) as f32 - 0.5) * 8.0,
        }
    }
}
