//! Attention straight from its definition, in f64: what every backend is compared with.

use crate::analysis::interpret::{Interpreter, Point};
use crate::attention::{AttentionError, Problem, Shape};
use crate::ir::semantics::Value;
use crate::mask::{Origin, TileKind};
use crate::mods::ModFault;

/// The results of the [`attention`] reference, contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceOutput {
    /// `[batch, heads, q_len, value_dim]`.
    pub out: Vec<f64>,
    /// `[batch, heads, q_len]`: the natural logarithm of the sum of exponentials of the kept scores.
    pub lse: Vec<f64>,
    /// `[batch, heads, q_len]`: the largest kept score.
    pub max_scores: Vec<f64>,
}

/// Computes attention in f64, a row at a time, asking the mask and the score mod for every pair of query and key. The
/// inputs are what they are in their own dtype; the mods run with floats of f64. Tiles that the user gave are believed.
///
/// A row that keeps no key, or only scores of −∞, gives 0 and lse and max −∞; a kept score that is NaN or +∞ makes the
/// row NaN.
///
/// # Errors
/// If the problem does not fit together, or the first fault in the order of (batch, head, query, key).
pub fn attention(problem: &Problem) -> Result<ReferenceOutput, AttentionError> {
    let shape = problem.validate()?;
    let Shape { batch, heads, q_len, kv_len, head_dim, value_dim, .. } = shape;
    let scale = f64::from(problem.effective_scale());
    let mut mask = problem.block_mask.map(|mask| Interpreter::<f64>::new(mask.mask_mod().bound()));
    let mut score_mod = problem.score_mod.map(|score| Interpreter::<f64>::new(score.bound()));
    let mut output = ReferenceOutput {
        out: vec![0.0; shape.rows() * value_dim],
        lse: vec![f64::NEG_INFINITY; shape.rows()],
        max_scores: vec![f64::NEG_INFINITY; shape.rows()],
    };
    let mut kept: Vec<(usize, f64)> = Vec::with_capacity(kv_len);
    for row in 0..shape.rows() {
        let (b, h, q) = (row / q_len / heads, row / q_len % heads, row % q_len);
        debug_assert!(b < batch);
        let kv_at = |index: usize, column| {
            [if shape.kv_batch == 1 { 0 } else { b }, h / shape.group(), index, column]
        };
        kept.clear();
        for kv in 0..kv_len {
            let at = Point { b: b as i32, h: h as i32, q: q as i32, kv: kv as i32 };
            let given = problem.block_mask.filter(|mask| mask.origin() == Origin::Given);
            let tile = given.map(|mask| mask.tile(b, h, q / mask.block_size().q, kv / mask.block_size().kv));
            if tile == Some(None) {
                continue;
            }
            if let (Some(interpreter), Some(mask)) = (&mut mask, problem.block_mask)
                && tile != Some(Some(TileKind::Full))
            {
                let keeps = interpreter.evaluate(at, 0.0);
                if !keeps
                    .map(Value::truth)
                    .map_err(|fault| ModFault::new(mask.mask_mod().bound(), at, fault))?
                {
                    continue;
                }
            }
            let product =
                |d| f64::from(problem.query.get([b, h, q, d])) * f64::from(problem.key.get(kv_at(kv, d)));
            let mut score = (0..head_dim).map(product).sum::<f64>() * scale;
            if let (Some(interpreter), Some(score_mod)) = (&mut score_mod, problem.score_mod) {
                let changed = interpreter.evaluate(at, score);
                score =
                    changed.map(Value::real).map_err(|fault| ModFault::new(score_mod.bound(), at, fault))?;
            }
            kept.push((kv, score));
        }
        let out = &mut output.out[row * value_dim..][..value_dim];
        if kept.iter().any(|(_, score)| score.is_nan() || *score == f64::INFINITY) {
            out.fill(f64::NAN);
            (output.lse[row], output.max_scores[row]) = (f64::NAN, f64::NAN);
            continue;
        }
        let max = kept.iter().fold(f64::NEG_INFINITY, |max, (_, score)| max.max(*score));
        if max == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = kept.iter().map(|(_, score)| (score - max).exp()).sum();
        for (kv, score) in &kept {
            let weight = (score - max).exp() / sum;
            for (column, x) in out.iter_mut().enumerate() {
                *x += weight * f64::from(problem.value.get(kv_at(*kv, column)));
            }
        }
        output.lse[row] = max + sum.ln();
        output.max_scores[row] = max;
    }
    Ok(output)
}
