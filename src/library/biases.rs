//! Learned biases of every rank.

use crate::prelude::*;

/// A bias for the difference `q - kv`, which starts at `-(kv_len - 1)`: `bias` has `q_len + kv_len - 1` elements and
/// `offset` is `kv_len - 1`.
#[score_mod]
pub fn relative_bias(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 1>, offset: i32) -> f32 {
    score + bias[q - kv + offset]
}

/// A bias for every key: `bias` is `[kv_len]`.
#[score_mod]
pub fn key_bias(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 1>) -> f32 {
    score + bias[kv]
}

/// A bias for every pair: `bias` is `[q_len, kv_len]`.
#[score_mod]
pub fn bias_qk(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 2>) -> f32 {
    score + bias[[q, kv]]
}

/// A bias for every pair and head: `bias` is `[heads, q_len, kv_len]`.
#[score_mod]
pub fn bias_hqk(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 3>) -> f32 {
    score + bias[[h, q, kv]]
}

/// A bias for every score: `bias` is `[batch, heads, q_len, kv_len]`.
#[score_mod]
pub fn bias_bhqk(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 4>) -> f32 {
    score + bias[[b, h, q, kv]]
}
