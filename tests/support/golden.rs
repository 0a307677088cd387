//! The goldens: inputs, mods' captures and what attention gives in float64 (see `tests/goldens/generate.py`).

use std::path::PathBuf;

use flex_attention::prelude::*;
use half::bf16;
use safetensors::{Dtype, SafeTensors};

use super::golden_mods;

/// One golden case.
pub struct Golden {
    pub name: String,
    pub scale: f32,
    /// `[batch, heads, q_len, head_dim]`, bf16.
    pub query: Tensor,
    pub key: Tensor,
    pub value: Tensor,
    /// `[batch, heads, q_len, value_dim]`, row-major.
    pub out: Vec<f32>,
    /// `[batch, heads, q_len]`.
    pub lse: Vec<f32>,
    /// Where the case has a mask: `[batch or 1, heads or 1, q_len or 1, kv_len]`, row-major.
    pub mask: Option<DenseMask>,
    pub mask_mod: Option<MaskMod>,
    pub score_mod: Option<ScoreMod>,
}

/// A mask by element, dimensions that do not matter being 1.
pub struct DenseMask {
    pub shape: [usize; 4],
    pub kept: Vec<bool>,
}

impl Golden {
    /// The names of all goldens, sorted.
    pub fn names() -> Vec<String> {
        let files = std::fs::read_dir(folder()).expect("tests/goldens is part of the repository");
        let mut names: Vec<String> = files
            .map(|file| file.expect("a readable folder").path())
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The golden's file.
    pub fn read(name: &str) -> Vec<u8> {
        std::fs::read(folder().join(format!("{name}.safetensors"))).expect("a readable golden")
    }

    pub fn load(name: &str) -> Self {
        let bytes = Self::read(name);
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let metadata = header.metadata().as_ref().expect("metadata");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let input = |name: &str| {
            let view = file.tensor(name).expect("an input");
            assert_eq!(view.dtype(), Dtype::BF16);
            let elements = read(view.data(), bf16::from_le_bytes);
            Tensor::from_vec(elements, view.shape().try_into().expect("four dimensions")).expect("a tensor")
        };
        let floats = |name: &str| read(file.tensor(name).expect("an output").data(), f32::from_le_bytes);
        let (mask_mod, score_mod) = golden_mods::mods(name, &golden_mods::captures(&file));
        let mask = file.tensor("mask").ok().map(|view| DenseMask {
            shape: view.shape().try_into().expect("four dimensions"),
            kept: view.data().iter().map(|&kept| kept != 0).collect(),
        });
        Self {
            name: name.into(),
            scale: metadata["scale"].parse().unwrap_or_else(|_| {
                let head_dim = file.tensor("q").expect("q").shape()[3];
                1.0 / (head_dim as f32).sqrt()
            }),
            query: input("q"),
            key: input("k"),
            value: input("v"),
            out: floats("out"),
            lse: floats("lse"),
            mask,
            mask_mod,
            score_mod,
        }
    }

    /// The size of the attention matrix.
    pub fn extent(&self) -> Extent {
        let [batch, heads, q_len, _] = self.query.shape();
        Extent { batch, heads, q_len, kv_len: self.key.shape()[2] }
    }
}

impl DenseMask {
    /// Whether query q of head h in batch b sees key kv.
    pub fn keeps(&self, index: [usize; 4]) -> bool {
        let mut offset = 0;
        for (&i, &len) in index.iter().zip(&self.shape) {
            offset = offset * len + if len == 1 { 0 } else { i };
        }
        self.kept[offset]
    }
}

/// Where the goldens are: in the repository, or where FLEX_GOLDENS says, for test programs that run elsewhere.
fn folder() -> PathBuf {
    let elsewhere = std::env::var_os("FLEX_GOLDENS").map(PathBuf::from);
    elsewhere.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens"))
}

fn read<T, const SIZE: usize>(bytes: &[u8], element: fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| element(chunk)).collect()
}
