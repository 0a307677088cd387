//! Softer and sharper attention.

use crate::prelude::*;

/// Divides scores by a temperature: above 1 attention spreads, below 1 it concentrates.
#[score_mod]
pub fn temperature(score: f32, b: i32, h: i32, q: i32, kv: i32, temperature: f32) -> f32 {
    score / temperature
}
