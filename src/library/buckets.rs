//! Relative position biases in buckets, as in T5.

use crate::prelude::*;

/// Adds a learned bias for the bucket of the relative position: `table` is `[buckets, heads]`, with the first half of
/// the buckets for keys up to the query and the second half for keys after it. Distances from `max_distance` on share
/// the last bucket.
#[score_mod]
pub fn t5_bias(score: f32, b: i32, h: i32, q: i32, kv: i32, table: View<f32, 2>, max_distance: i32) -> f32 {
    let half = table.dim(0) / 2;
    let direction = if kv > q { half } else { 0 };
    score + table[[direction + t5_bucket((kv - q).abs(), half, max_distance), h]]
}

/// The bucket of a distance among `buckets`: half of them are one distance each, the others grow with the logarithm.
#[mod_fn]
pub fn t5_bucket(distance: i32, buckets: i32, max_distance: i32) -> i32 {
    let exact = buckets / 2;
    if distance < exact {
        distance
    } else {
        let growth = (distance as f32 / exact as f32).ln() / (max_distance as f32 / exact as f32).ln();
        (exact + (growth * (buckets - exact) as f32) as i32).min(buckets - 1)
    }
}
