//! A sliding window twice: its mask evaluated for every element, and with a block mask that skips tiles.
//!
//! `cargo run --release --example sliding_window`; `SEQ_LEN` and `WINDOW` change the sizes.

use std::time::Instant;

use flex_attention::prelude::*;

/// Keys up to the query, at most `window` back.
#[mask_mod]
fn sliding_window(b: i32, h: i32, q: i32, kv: i32, window: i32) -> bool {
    q >= kv && q - kv <= window
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seq_len = setting("SEQ_LEN", 2048)?;
    let window = setting("WINDOW", 256)?;
    let (heads, head_dim) = (8, 64);
    let shape = [1, heads, seq_len, head_dim];
    let wave =
        |step: f32| Tensor::from_fn(shape, move |[_, h, s, d]| ((h * 13 + s * 7 + d) as f32 * step).sin());
    let (query, key, value) = (wave(0.11)?, wave(0.13)?, wave(0.17)?);

    let mask = sliding_window::bind(i32::try_from(window)?)?;
    let extent = Extent { batch: 1, heads: 1, q_len: seq_len, kv_len: seq_len };
    let block_mask = create_block_mask(&mask, extent)?;

    let (dense, dense_ms) = timed(|| flex_attention(&query, &key, &value).mask_mod(&mask).run())?;
    let (block, block_ms) = timed(|| flex_attention(&query, &key, &value).block_mask(&block_mask).run())?;
    let difference = dense
        .to_f32_vec()?
        .iter()
        .zip(block.to_f32_vec()?)
        .fold(0f32, |most, (a, b)| most.max((a - b).abs()));

    println!(
        "{seq_len} tokens, a window of {window}: {:.1} % of the tiles are skipped",
        block_mask.sparsity()
    );
    println!("mask by element  {dense_ms:9.2} ms");
    println!("block mask       {block_ms:9.2} ms   {:.1} times as fast", dense_ms / block_ms);
    println!("largest difference of the outputs: {difference:.1e}");
    Ok(())
}

fn setting(variable: &str, default: usize) -> Result<usize, String> {
    match std::env::var(variable) {
        Err(_) => Ok(default),
        Ok(text) => match text.trim().parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{variable} should be a number from 1, got {text:?}")),
        },
    }
}

/// The result and the fastest of three calls in milliseconds.
fn timed<T, E>(mut call: impl FnMut() -> Result<T, E>) -> Result<(T, f64), E> {
    let mut fastest = f64::INFINITY;
    let mut result = call()?;
    for _ in 0..3 {
        let start = Instant::now();
        result = call()?;
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((result, fastest))
}
