//! `flex demo`: the main job on real activations.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use flex_attention::library;
use flex_attention::prelude::*;
use flex_core::attention::{Elements, Problem, TensorRef};
use serde::Serialize;

use crate::bench::Backend;
use crate::error::ProgramError;
use crate::output::Output;
use crate::packed::Packed;
use crate::picture::{framed, write_file};
use crate::timing::median_ms;

/// How to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Queries and keys a tile of the block mask.
    #[arg(long, default_value_t = 16)]
    block_size: usize,
    /// Where to draw the mask.
    #[arg(long, value_name = "FILE", default_value = "flex-demo-mask.svg")]
    svg: PathBuf,
    /// The type that query, key and value are given in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: crate::bench::Precision,
}

#[derive(Debug, Serialize)]
struct Demo {
    backend: Backend,
    dtype: DType,
    /// `[batch, heads, len, head_dim]`.
    shape: [usize; 4],
    sentences: usize,
    block_size: usize,
    /// ‖out − golden‖ / ‖golden‖ against the float64 result that was computed elsewhere.
    rel_err_vs_golden: f64,
    /// ‖out − reference‖ / ‖reference‖ against this library's float64 reference.
    rel_err_vs_f64: f64,
    tiles_total: u64,
    tiles_skipped: u64,
    mask_build_ms: f64,
    /// The median time of the attention with the block mask.
    ms: f64,
    /// The same without a block mask, every element of the mask evaluated.
    ms_without_block_mask: f64,
    svg: PathBuf,
    #[serde(skip)]
    picture: String,
}

impl fmt::Display for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, heads, len, head_dim] = self.shape;
        writeln!(
            f,
            "{} sentences packed into one sequence of {len} tokens, {heads} heads of {head_dim}:",
            self.sentences
        )?;
        writeln!(
            f,
            "query, key and value of a real sentence encoder. The mask, as it is written in Rust:\n"
        )?;
        writeln!(f, "    #[mask_mod]")?;
        writeln!(f, "    fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {{")?;
        writeln!(f, "        doc[q] == doc[kv]\n    }}\n")?;
        writeln!(f, "{}", self.picture)?;
        let skipped = 100.0 * self.tiles_skipped as f64 / self.tiles_total as f64;
        writeln!(
            f,
            "\n  tiles of {0}×{0}   {1} of {2} skipped ({skipped:.1} %), found in {3:.3} ms",
            self.block_size, self.tiles_skipped, self.tiles_total, self.mask_build_ms
        )?;
        writeln!(
            f,
            "  attention        {:.3} ms on the CPU in {}; {:.3} ms without the block mask",
            self.ms, self.dtype, self.ms_without_block_mask
        )?;
        writeln!(
            f,
            "  vs golden        {:.1e} relative error (float64, computed elsewhere)",
            self.rel_err_vs_golden
        )?;
        writeln!(
            f,
            "  vs reference     {:.1e} relative error (float64, computed here)",
            self.rel_err_vs_f64
        )?;
        write!(f, "  picture          {}", self.svg.display())
    }
}

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    let packed = Packed::load()?;
    let [.., len, _] = packed.query.shape();
    let dtype: DType = args.dtype.into();
    let (query, key, value) =
        (packed.query.to_dtype(dtype)?, packed.key.to_dtype(dtype)?, packed.value.to_dtype(dtype)?);

    let document = library::document::bind(&packed.sentence)?;
    let extent = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
    let start = Instant::now();
    let block_mask = BlockMask::builder(&document).block_size(args.block_size).build(extent)?;
    let mask_build_ms = start.elapsed().as_secs_f64() * 1e3;

    let out = flex_attention(&query, &key, &value).block_mask(&block_mask).run()?;
    let exact = reference(&query, &key, &value, &block_mask)?;
    let ms = median_ms(|| flex_attention(&query, &key, &value).block_mask(&block_mask).run().map(drop))?;
    let ms_without_block_mask =
        median_ms(|| flex_attention(&query, &key, &value).mask_mod(&document).run().map(drop))?;

    write_file(&args.svg, block_mask.svg(0, 0))?;
    let out = out.to_f32_vec()?;
    output.print(&Demo {
        backend: Backend::Cpu,
        dtype,
        shape: query.shape(),
        sentences: packed.sentences(),
        block_size: args.block_size,
        rel_err_vs_golden: relative_error(&out, packed.golden.iter().map(|&x| x.into())),
        rel_err_vs_f64: relative_error(&out, exact.into_iter()),
        tiles_total: block_mask.tiles_total(),
        tiles_skipped: block_mask.tiles_total() - block_mask.tiles_full() - block_mask.tiles_partial(),
        mask_build_ms,
        ms,
        ms_without_block_mask,
        svg: args.svg.clone(),
        picture: framed(&block_mask),
    })
}

/// The output in float64, every element of the mask evaluated.
fn reference(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    block_mask: &BlockMask,
) -> Result<Vec<f64>, ProgramError> {
    let elements = [query.to_f32_vec()?, key.to_f32_vec()?, value.to_f32_vec()?];
    let borrowed = |name, i: usize, tensor: &Tensor| {
        TensorRef::contiguous(name, Elements::F32(&elements[i]), tensor.shape())
    };
    let problem = Problem {
        query: borrowed("query", 0, query)?,
        key: borrowed("key", 1, key)?,
        value: borrowed("value", 2, value)?,
        scale: None,
        score_mod: None,
        block_mask: Some(block_mask),
    };
    Ok(flex_core::reference::attention(&problem)?.out)
}

/// ‖got − expected‖ / ‖expected‖.
fn relative_error(got: &[f32], expected: impl Iterator<Item = f64>) -> f64 {
    let (mut error, mut norm) = (0f64, 0f64);
    for (&got, expected) in got.iter().zip(expected) {
        error += (f64::from(got) - expected).powi(2);
        norm += expected * expected;
    }
    (error / norm).sqrt()
}
