//! Masks element by element and tile by tile, for pictures and tests.

use super::{BlockMask, Extent, MaskError, TileKind};
use crate::analysis::interpret::{Interpreter, Point};
use crate::ir::Input;
use crate::mods::{MaskMod, ModFault};

/// A mask with one bool an element, `[batch, heads, q_len, kv_len]`, row-major. A dimension the mask does not depend on
/// has length 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseMask {
    /// `[batch, heads, q_len, kv_len]`; batch and heads may be 1 for any number.
    pub shape: [usize; 4],
    /// The elements in row-major order.
    pub keep: Vec<bool>,
}

/// Evaluates a mask at every element. For tests and small sizes: it takes memory for every element.
///
/// # Errors
/// If a dimension is zero or too large, the elements cannot be counted, or the mask faults somewhere.
pub fn create_mask(mask: &MaskMod, extent: Extent) -> Result<DenseMask, MaskError> {
    extent.validate()?;
    let expr = mask.bound().expr();
    let batch = if expr.uses(Input::Batch) { extent.batch } else { 1 };
    let heads = if expr.uses(Input::Head) { extent.heads } else { 1 };
    let shape = [batch, heads, extent.q_len, extent.kv_len];
    let count = shape.iter().fold(1usize, |product, &len| product.saturating_mul(len));
    const MAX_ELEMENTS: usize = 1 << 34;
    if count > MAX_ELEMENTS {
        return Err(MaskError::TooLarge { what: "elements", got: count, max: MAX_ELEMENTS });
    }
    let mut keep = Vec::with_capacity(count);
    let mut interpreter = Interpreter::<f32>::new(mask.bound());
    for b in 0..batch as i32 {
        for h in 0..heads as i32 {
            for q in 0..extent.q_len as i32 {
                for kv in 0..extent.kv_len as i32 {
                    let at = Point { b, h, q, kv };
                    let value = interpreter.evaluate(at, 0.0);
                    keep.push(value.map_err(|fault| ModFault::new(mask.bound(), at, fault))?.truth());
                }
            }
        }
    }
    Ok(DenseMask { shape, keep })
}

impl BlockMask {
    /// The kind of every tile, `[stored (batch, head) pairs, q_blocks, kv_blocks]` row-major; `None` for skipped ones.
    pub fn to_dense(&self) -> Vec<Option<TileKind>> {
        let width = self.kv_blocks();
        let mut tiles = vec![None; self.rows.rows() * width];
        for (row, tiles) in tiles.chunks_mut(width).enumerate() {
            for run in self.rows.row(row) {
                tiles[run.first() as usize..run.end() as usize].fill(Some(run.kind()));
            }
        }
        tiles
    }
}
