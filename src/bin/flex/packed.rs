//! Real activations: sentences packed into one sequence, from a language model's third layer.

use flex_attention::prelude::*;
use half::bf16;
use safetensors::{Dtype, SafeTensors};

use crate::error::ProgramError;

/// query, key and value of all-MiniLM-L6-v2 over 27 sentences packed into one sequence of 357 tokens, and what
/// attention within each sentence gives in float64.
pub(crate) struct Packed {
    /// `[1, 12, 357, 32]`, bf16.
    pub(crate) query: Tensor,
    /// As `query`.
    pub(crate) key: Tensor,
    /// As `query`.
    pub(crate) value: Tensor,
    /// The sentence of every token.
    pub(crate) sentence: Vec<i32>,
    /// The output that was computed elsewhere in float64, row-major.
    pub(crate) golden: Vec<f32>,
}

static FILE: &[u8] = include_bytes!("../../../tests/goldens/real_minilm_packed.safetensors");

impl Packed {
    /// Reads the activations that are part of the program.
    pub(crate) fn load() -> Result<Self, ProgramError> {
        let broken = |e: safetensors::SafeTensorError| ProgramError::Packed(e.to_string());
        let file = SafeTensors::deserialize(FILE).map_err(broken)?;
        let tensor = |name: &str| -> Result<Tensor, ProgramError> {
            let view = file.tensor(name).map_err(broken)?;
            let shape = view.shape().try_into().map_err(|_| wrong(name, "four dimensions"))?;
            let elements = elements(name, view.dtype(), Dtype::BF16, view.data(), bf16::from_le_bytes)?;
            Ok(Tensor::from_vec(elements, shape)?)
        };
        let sentence = file.tensor("cap.doc").map_err(broken)?;
        let golden = file.tensor("out").map_err(broken)?;
        Ok(Self {
            query: tensor("q")?,
            key: tensor("k")?,
            value: tensor("v")?,
            sentence: elements("cap.doc", sentence.dtype(), Dtype::I32, sentence.data(), i32::from_le_bytes)?,
            golden: elements("out", golden.dtype(), Dtype::F32, golden.data(), f32::from_le_bytes)?,
        })
    }

    /// How many sentences there are.
    pub(crate) fn sentences(&self) -> usize {
        self.sentence.last().map_or(0, |&last| last as usize + 1)
    }
}

fn elements<T, const SIZE: usize>(
    name: &str,
    got: Dtype,
    expected: Dtype,
    bytes: &[u8],
    read: fn([u8; SIZE]) -> T,
) -> Result<Vec<T>, ProgramError> {
    if got != expected {
        return Err(wrong(name, &format!("dtype {expected:?}, got {got:?}")));
    }
    Ok(bytes.as_chunks().0.iter().map(|&chunk| read(chunk)).collect())
}

fn wrong(name: &str, expected: &str) -> ProgramError {
    ProgramError::Packed(format!("tensor {name} should have {expected}"))
}
