//! Heads with a gate.

use crate::prelude::*;

/// Scales the scores of head `h` by the sigmoid of `gates[h]`.
#[score_mod]
pub fn head_gate(score: f32, b: i32, h: i32, q: i32, kv: i32, gates: View<f32, 1>) -> f32 {
    score / (1.0 + (-gates[h]).exp())
}
