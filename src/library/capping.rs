//! Scores kept in bounds.

use crate::prelude::*;

/// Keeps scores between `-cap` and `cap`, smoothly: `cap * tanh(score / cap)`.
#[score_mod]
pub fn softcap(score: f32, b: i32, h: i32, q: i32, kv: i32, cap: f32) -> f32 {
    cap * (score / cap).tanh()
}
