//! How much work a document mask saves, and how well tiles of different sizes catch it.
//!
//! `BLOCK_SIZE=32,64,128 DOC_SPAN=100,500 SEQ_LEN=2048 cargo run --release --example document_mask`
//!
//! Each variable is a list separated by commas; the table has a row for every combination. Documents are `DOC_SPAN`
//! tokens long on average.

use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use flex_attention::prelude::*;

/// Tokens see earlier tokens of their own document.
#[mask_mod]
fn document_causal(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv] && q >= kv
}

const HEADS: usize = 8;
const HEAD_DIM: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let block_sizes = sweep("BLOCK_SIZE", "32,64,128,256")?;
    let doc_spans = sweep("DOC_SPAN", "128,512")?;
    let seq_lens = sweep("SEQ_LEN", "2048")?;

    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "seq_len", "doc span", "tile", "skipped", "full", "partial", "mask ms", "ms", "vs dense",
    ]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for &seq_len in &seq_lens {
        let shape = [1, HEADS, seq_len, HEAD_DIM];
        let wave = |step: f32| {
            Tensor::from_fn(shape, move |[_, h, s, d]| ((h * 13 + s * 7 + d) as f32 * step).sin())
        };
        let (query, key, value) = (wave(0.11)?, wave(0.13)?, wave(0.17)?);
        let dense_ms = fastest_ms(|| flex_attention(&query, &key, &value).run().map(drop))?;
        for &doc_span in &doc_spans {
            let mask = document_causal::bind(documents(seq_len, doc_span))?;
            for &block_size in &block_sizes {
                let extent = Extent { batch: 1, heads: 1, q_len: seq_len, kv_len: seq_len };
                let build = || BlockMask::builder(&mask).block_size(block_size).build(extent);
                let block_mask = build()?;
                let build_ms = fastest_ms(|| build().map(drop))?;
                let ms = fastest_ms(|| {
                    flex_attention(&query, &key, &value).block_mask(&block_mask).run().map(drop)
                })?;
                table.add_row([
                    seq_len.to_string(),
                    doc_span.to_string(),
                    block_size.to_string(),
                    format!("{:.1} %", block_mask.sparsity()),
                    block_mask.tiles_full().to_string(),
                    block_mask.tiles_partial().to_string(),
                    format!("{build_ms:.3}"),
                    format!("{ms:.2}"),
                    format!("{:.1}x", dense_ms / ms),
                ]);
            }
        }
    }
    println!("{HEADS} heads of {HEAD_DIM}, f32, causal within documents\n{table}");
    Ok(())
}

/// The numbers of an environment variable.
fn sweep(variable: &str, default: &str) -> Result<Vec<usize>, String> {
    let list = std::env::var(variable).unwrap_or_else(|_| default.into());
    let number = |item: &str| match item.trim().parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => {
            Err(format!("{variable} should be numbers from 1, separated by commas; got {item:?} in {list:?}"))
        }
    };
    list.split(',').map(number).collect()
}

/// Documents of between half and one and a half times the span, in a repeating pattern.
fn documents(seq_len: usize, span: usize) -> Vec<i32> {
    let mut ids = Vec::with_capacity(seq_len);
    for document in 0.. {
        let percent = 50 + document * 37 % 101;
        let len = (span * percent / 100).max(1);
        ids.extend(std::iter::repeat_n(document as i32, len.min(seq_len - ids.len())));
        if ids.len() == seq_len {
            break;
        }
    }
    ids
}

fn fastest_ms<E>(mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut fastest = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        call()?;
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(fastest)
}
