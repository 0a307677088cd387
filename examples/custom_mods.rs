//! Your own mods: functions and closures with captures, combined, tested as plain Rust, and run.
//!
//! `cargo run --example custom_mods`

use flex_attention::{mask_mod, prelude::*, score_mod};

/// Chat turns: a token sees its own turn, and everything that is pinned (a system prompt), but nothing later.
#[mask_mod]
fn pinned_turns(b: i32, h: i32, q: i32, kv: i32, turn: View<i32, 2>, pinned: View<bool, 1>) -> bool {
    (turn[[b, q]] == turn[[b, kv]] || pinned[kv]) && q >= kv
}

/// Smoothly forgets: the score falls with the logarithm of the distance, at a rate of its own for every head.
#[mod_fn]
fn forgetting(distance: i32, rate: f32) -> f32 {
    rate * (1.0 + distance.abs() as f32).ln()
}

#[score_mod]
fn log_distance(score: f32, b: i32, h: i32, q: i32, kv: i32, rate: View<f32, 1>) -> f32 {
    score - forgetting(q - kv, rate[h])
}

fn main() -> Result<(), flex_attention::Error> {
    let (batch, heads, len, head_dim) = (2, 4, 96, 32);
    let turns: Vec<i32> = (0..batch).flat_map(|b| (0..len).map(move |t| (t / (12 + 4 * b)) as i32)).collect();
    let pinned: Vec<bool> = (0..len).map(|token| token < 6).collect();
    let rates = [0.0, 0.25, 0.5, 1.0];

    // A mod stays a plain function.
    let turn = View::new(&turns, [batch, len])?;
    assert!(pinned_turns(0, 0, 40, 5, turn, View::new(&pinned, [len])?));
    assert!(!pinned_turns(0, 0, 40, 6, turn, View::new(&pinned, [len])?));

    // Bound to its captures it is a value that combines with others.
    let window = 48;
    let recent = mask_mod!(|b, h, q, kv| q - kv <= window);
    let mask = pinned_turns::bind(turn, &pinned)? & recent;
    let cap = 30.0f32;
    let capped = score_mod!(|score, b, h, q, kv| cap * (score / cap).tanh());
    let score_mod = log_distance::bind(&rates)?.then(&capped);

    let extent = Extent { batch, heads, q_len: len, kv_len: len };
    let block_mask = BlockMask::builder(&mask).block_size(16).build(extent)?;
    print!("{block_mask}");

    let shape = [batch, heads, len, head_dim];
    let wave = |step: f32| {
        Tensor::from_fn(shape, move |[b, h, s, d]| ((b * 31 + h * 17 + s * 7 + d * 3) as f32 * step).sin())
    };
    let (query, key, value) = (wave(0.11)?, wave(0.13)?, wave(0.17)?);
    let output = flex_attention(&query, &key, &value)
        .score_mod(&score_mod)
        .block_mask(&block_mask)
        .run_with(Aux::LSE)?;
    let lse = output.lse.map(|lse| lse.to_f32_vec()).transpose()?.unwrap_or_default();
    println!("out {:?}; lse of the first head: {:.3?} …", output.out.shape(), &lse[..4]);
    Ok(())
}
