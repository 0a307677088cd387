//! Attention as separate operations in a narrow dtype compute it: the yardstick for fused kernels in that dtype.

use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::ir::semantics::Value;

use super::gpu::{Case, host};

/// `[batch, heads, q_len, value_dim]`, row-major. `round` rounds to the dtype: the products q·k, the probabilities and
/// the output; scale, mods and softmax are computed in f64.
pub fn attention(case: &Case, round: impl Fn(f64) -> f64) -> Vec<f64> {
    let (query, key, value) = (host(&case.query), host(&case.key), host(&case.value));
    let [batch, heads, q_len, head_dim] = query.shape();
    let [kv_batch, kv_heads, kv_len, value_dim] = value.shape();
    let scale = f64::from(case.scale.unwrap_or_else(|| 1.0 / (head_dim as f32).sqrt()));
    let mut mask = case.mask.as_ref().map(|mask| Interpreter::<f64>::new(mask.bound()));
    let mut score_mod = case.score.as_ref().map(|score| Interpreter::<f64>::new(score.bound()));
    let mut out = Vec::with_capacity(batch * heads * q_len * value_dim);
    for row in 0..batch * heads * q_len {
        let (b, h, q) = (row / q_len / heads, row / q_len % heads, row % q_len);
        let (kv_b, kv_h) = (b % kv_batch, h / (heads / kv_heads));
        let mut scores = vec![f64::NEG_INFINITY; kv_len];
        for (kv, score) in scores.iter_mut().enumerate() {
            let at = Point { b: b as i32, h: h as i32, q: q as i32, kv: kv as i32 };
            let kept = mask.as_mut().is_none_or(|mask| mask.evaluate(at, 0.0).map(Value::truth).unwrap());
            if kept {
                let product =
                    |d| f64::from(query.get([b, h, q, d])) * f64::from(key.get([kv_b, kv_h, kv, d]));
                let scaled = round((0..head_dim).map(product).sum()) * scale;
                *score = match &mut score_mod {
                    Some(score_mod) => score_mod.evaluate(at, scaled).map(Value::real).unwrap(),
                    None => scaled,
                };
            }
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = match max == f64::NEG_INFINITY {
            true => vec![0.0; kv_len],
            false => scores.iter().map(|score| (score - max).exp()).collect(),
        };
        let sum: f64 = weights.iter().sum();
        for d in 0..value_dim {
            let terms = weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
            let weighted = terms
                .map(|(kv, weight)| round(weight / sum) * f64::from(value.get([kv_b, kv_h, kv, d])))
                .sum();
            out.push(round(weighted));
        }
    }
    out
}
