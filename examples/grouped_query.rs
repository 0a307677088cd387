//! Grouped queries: several query heads share a key/value head, and sequences share a prefix of keys.
//!
//! `cargo run --example grouped_query`

use flex_attention::prelude::*;

/// Every query sees the keys up to its own position.
#[mask_mod]
fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}

fn main() -> Result<(), flex_attention::Error> {
    let (batch, heads, kv_heads, len, head_dim) = (2, 8, 2, 64, 32);
    let wave = |shape, step: f32| {
        Tensor::from_fn(shape, move |[b, h, s, d]| ((b * 29 + h * 13 + s * 7 + d) as f32 * step).sin())
    };
    let query = wave([batch, heads, len, head_dim], 0.11)?;
    let key = wave([batch, kv_heads, len, head_dim], 0.13)?;
    let value = wave([batch, kv_heads, len, head_dim], 0.17)?;

    // A mask that does not depend on batch and head is built once and serves all of them.
    let one = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
    let block_mask = create_block_mask(&causal::bind()?, one)?;
    let grouped = flex_attention(&query, &key, &value).block_mask(&block_mask).run()?;
    println!("{heads} query heads over {kv_heads} key/value heads: {:?}", grouped.shape());

    // Query heads 0..4 use key/value head 0, heads 4..8 head 1: the same, head by head.
    for head in 0..heads {
        let kv_head = head / (heads / kv_heads);
        let [q, k, v] = [query.narrow(1, head, 1)?, key.narrow(1, kv_head, 1)?, value.narrow(1, kv_head, 1)?];
        let single = flex_attention(&q, &k, &v).block_mask(&block_mask).run()?;
        assert_eq!(single.to_f32_vec()?, grouped.narrow(1, head, 1)?.to_f32_vec()?);
    }
    println!("equal to {heads} single heads, bit by bit");

    // Keys and values of batch 1 serve every sequence without being copied.
    let (shared_key, shared_value) = (key.narrow(0, 0, 1)?, value.narrow(0, 0, 1)?);
    let shared = flex_attention(&query, &shared_key, &shared_value).block_mask(&block_mask).run()?;
    assert_eq!(shared.narrow(0, 0, 1)?.to_f32_vec()?, grouped.narrow(0, 0, 1)?.to_f32_vec()?);
    println!("key and value of one sequence shared by {batch}: {:?}", shared.shape());

    // Decoding: one new query at the end of the sequence sees all keys. The offset is a run-time value.
    let last = query.narrow(2, len - 1, 1)?;
    let decode = Extent { batch: 1, heads: 1, q_len: 1, kv_len: len };
    let decode_mask = create_block_mask(&causal::bind()?.shift_q(len as i32 - 1), decode)?;
    let token = flex_attention(&last, &key, &value).block_mask(&decode_mask).run()?;
    let expected = grouped.narrow(2, len - 1, 1)?.to_f32_vec()?;
    let difference =
        token.to_f32_vec()?.iter().zip(expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    println!("the last token alone differs by {difference:.1e}");
    Ok(())
}
