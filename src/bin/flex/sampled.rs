//! How exact an output is, on a sample of query rows, where a whole float64 reference would take too long.

use flex_attention::prelude::*;
use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::ir::semantics::Value;
use flex_core::mods::{BoundExpr, ModFault};

use crate::error::ProgramError;

/// An attention problem with its inputs widened row by row to float64.
pub(crate) struct Sampled<'a> {
    pub(crate) query: &'a Tensor,
    pub(crate) key: &'a Tensor,
    pub(crate) value: &'a Tensor,
    pub(crate) mask: Option<&'a MaskMod>,
    pub(crate) score: Option<&'a ScoreMod>,
}

/// Relative errors against float64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errors {
    /// ‖out − reference‖ / ‖reference‖ over all sampled rows.
    pub(crate) overall: f64,
    /// The largest one of a row.
    pub(crate) worst_row: f64,
}

/// Products of a row are counted in pairs; this many take well under a second.
const PAIRS: usize = 1 << 21;

impl Sampled<'_> {
    /// The errors of rows spread evenly over the batch, the heads and the queries. Rows without keys must be 0.
    pub(crate) fn errors(&self, out: &Tensor) -> Result<Errors, ProgramError> {
        let [batch, heads, q_len, _] = self.query.shape();
        let rows = batch * heads * q_len;
        let samples = (PAIRS / self.key.shape()[2]).clamp(4, 128).min(rows);
        let (mut worst, mut errors, mut norms) = (0f64, 0f64, 0f64);
        for i in 0..samples {
            // The first row, the last row, and a stride between that meets all heads and all places in a tile.
            let row = if samples == 1 {
                0
            } else {
                (i as u128 * (rows - 1) as u128 / (samples - 1) as u128) as usize
            };
            let [b, h, q] = [row / (heads * q_len), row / q_len % heads, row % q_len];
            let expected = self.row(b, h, q)?;
            let got = rows_of(out, b, h, q, 1)?;
            let error: f64 = expected.iter().zip(&got).map(|(e, &g)| (e - f64::from(g)).powi(2)).sum();
            let norm: f64 = expected.iter().map(|e| e * e).sum();
            (errors, norms) = (errors + error, norms + norm);
            let relative = relative(error, norm);
            // NaN is the worst of all.
            worst = if relative.is_nan() { f64::INFINITY } else { worst.max(relative) };
        }
        Ok(Errors { overall: relative(errors, norms), worst_row: worst })
    }

    /// One row of the output, in float64 throughout.
    fn row(&self, b: usize, h: usize, q: usize) -> Result<Vec<f64>, ProgramError> {
        let (key_shape, value_shape) = (self.key.shape(), self.value.shape());
        let kv_head = h / (self.query.shape()[1] / key_shape[1]);
        let kv_batch = if key_shape[0] == 1 { 0 } else { b };
        let query = rows_of(self.query, b, h, q, 1)?;
        let keys = rows_of(self.key, kv_batch, kv_head, 0, key_shape[2])?;
        let values = rows_of(self.value, kv_batch, kv_head, 0, key_shape[2])?;
        let scale = 1.0 / (query.len() as f64).sqrt();
        let mut mask = self.mask.map(|m| Evaluated::new(m.bound()));
        let mut score = self.score.map(|s| Evaluated::new(s.bound()));

        let (mut largest, mut total) = (f64::NEG_INFINITY, 0f64);
        let mut out = vec![0f64; value_shape[3]];
        let keys_and_values = keys.chunks_exact(key_shape[3]).zip(values.chunks_exact(value_shape[3]));
        for (kv, (key, value)) in keys_and_values.enumerate() {
            let at = Point { b: b as i32, h: h as i32, q: q as i32, kv: kv as i32 };
            if let Some(mask) = &mut mask
                && mask.at(at, 0.0)? == Value::Bool(false)
            {
                continue;
            }
            let products = query.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b));
            let mut s = products.sum::<f64>() * scale;
            if let Some(score) = &mut score
                && let Value::Real(changed) = score.at(at, s)?
            {
                s = changed;
            }
            if s > largest {
                let shrink = (largest - s).exp();
                total *= shrink;
                out.iter_mut().for_each(|o| *o *= shrink);
                largest = s;
            }
            let weight = (s - largest).exp();
            total += weight;
            out.iter_mut().zip(value).for_each(|(o, &v)| *o += weight * f64::from(v));
        }
        if total > 0.0 {
            out.iter_mut().for_each(|o| *o /= total);
        }
        Ok(out)
    }
}

/// From squares.
fn relative(error: f64, norm: f64) -> f64 {
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}

/// `len` rows of one head from row `start`, widened.
fn rows_of(tensor: &Tensor, b: usize, h: usize, start: usize, len: usize) -> Result<Vec<f32>, ProgramError> {
    Ok(tensor.narrow(0, b, 1)?.narrow(1, h, 1)?.narrow(2, start, len)?.to_f32_vec()?)
}

/// A mod evaluated in float64, with its faults named.
struct Evaluated<'a> {
    bound: &'a BoundExpr,
    interpreter: Interpreter<'a, f64>,
}

impl<'a> Evaluated<'a> {
    fn new(bound: &'a BoundExpr) -> Self {
        Self { bound, interpreter: Interpreter::new(bound) }
    }

    fn at(&mut self, point: Point, score: f64) -> Result<Value<f64>, ModFault> {
        self.interpreter.evaluate(point, score).map_err(|fault| ModFault::new(self.bound, point, fault))
    }
}
