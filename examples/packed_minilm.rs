//! Sentences of a real encoder packed into one sequence: a document mask keeps them apart.
//!
//! Reads query, key, value and the float64 result from a safetensors file.
//! `cargo run --release --example packed_minilm [FILE]`

use flex_attention::prelude::*;
use half::bf16;
use safetensors::SafeTensors;

/// Tokens see the tokens of their own document.
#[mask_mod]
fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/real_minilm_packed.safetensors");
    let path = std::env::args().nth(1).unwrap_or_else(|| packed.into());
    let bytes = std::fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let load = |name: &str| -> Result<Tensor, Box<dyn std::error::Error>> {
        let view = file.tensor(name)?;
        let elements: Vec<bf16> = read(view.data(), bf16::from_le_bytes);
        Ok(Tensor::from_vec(elements, view.shape().try_into()?)?)
    };
    let (query, key, value) = (load("q")?, load("k")?, load("v")?);
    let doc: Vec<i32> = read(file.tensor("cap.doc")?.data(), i32::from_le_bytes);
    let golden: Vec<f32> = read(file.tensor("out")?.data(), f32::from_le_bytes);

    let [batch, heads, len, head_dim] = query.shape();
    let extent = Extent { batch, heads, q_len: len, kv_len: len };
    let block_mask = BlockMask::builder(&document::bind(&doc)?).block_size(16).build(extent)?;
    println!("{} tokens, {heads} heads of {head_dim}; {:.1} % skipped", len, block_mask.sparsity());

    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let (q, k, v) = (query.to_dtype(dtype)?, key.to_dtype(dtype)?, value.to_dtype(dtype)?);
        let out = flex_attention(&q, &k, &v).block_mask(&block_mask).run()?;
        println!("{:>4}: relative error {:.1e}", dtype.name(), relative_error(&out.to_f32_vec()?, &golden));
    }
    Ok(())
}

fn read<T, const SIZE: usize>(bytes: &[u8], element: fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| element(chunk)).collect()
}

fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = got.iter().zip(expected).map(|(&g, &e)| square(f64::from(g) - f64::from(e))).sum();
    (error / expected.iter().map(|&e| square(e.into())).sum::<f64>()).sqrt()
}
