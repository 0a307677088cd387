//! Block masks that grow, as sequences do in decoding.

use std::sync::OnceLock;

use super::builder::{Built, Plan, Tiles};
use super::slice::clipped;
use super::{BlockMask, Extent, MaskError, RunTable};

impl BlockMask {
    /// The block mask of the same mask and queries for more keys: what a cache holds after decoding another token. See
    /// [`extend`](Self::extend), which lets the queries grow too.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn extend_keys(&self, kv_len: usize) -> Result<Self, MaskError> {
        self.extend(self.extent.q_len, kv_len)
    }

    /// The block mask of the same mask for longer sequences. Only new tiles are judged, and those that the old ends cut;
    /// the result is that of building anew.
    ///
    /// # Errors
    /// If a length is shorter than it was or too large, the mask faults in the new part, or the tiles were given.
    pub fn extend(&self, q_len: usize, kv_len: usize) -> Result<Self, MaskError> {
        let judgement = self.judgement("extend")?;
        let old = self.extent;
        if q_len < old.q_len || kv_len < old.kv_len {
            return Err(MaskError::Shrinks { from: old, q_len, kv_len });
        }
        let plan = Plan::new(&self.mask, Extent { q_len, kv_len, ..old }, self.block, judgement)?;
        let (q_blocks, kv_blocks) = (plan.q_blocks() as u32, plan.kv_blocks() as u32);
        // A last tile that was cut holds more elements now.
        let kept = |len: usize, longer: usize, block: usize| {
            if len == longer { len.div_ceil(block) as u32 } else { (len / block) as u32 }
        };
        let q_kept = kept(old.q_len, q_len, self.block.q);
        let kv_kept = kept(old.kv_len, kv_len, self.block.kv);
        let run = |q: (u32, u32), kv: (u32, u32)| match q.0 < q.1 && kv.0 < kv.1 {
            true => plan.run(Tiles { q, kv }, None).map(Some),
            false => Ok(None),
        };
        let beside = run((0, q_kept), (kv_kept, kv_blocks))?;
        let below = run((q_kept, q_blocks), (0, kv_blocks))?;
        let (batch_rows, head_rows) = plan.row_strides();
        let groups = self.groups().0;
        let mut table = RunTable::with_capacity(groups * plan.q_blocks());
        let (height, old_height) = (q_kept as usize, self.q_blocks());
        for group in 0..groups {
            for row in 0..height {
                table.runs.extend(clipped(self.rows.row(group * old_height + row), 0, kv_kept));
                let new = beside.as_ref().map_or(&[][..], |built| built.table.row(group * height + row));
                new.iter().for_each(|&run| table.push(run));
                table.end_row()?;
            }
            let new_rows = (q_blocks - q_kept) as usize;
            for row in 0..new_rows {
                let new = below.as_ref().map_or(&[][..], |built| built.table.row(group * new_rows + row));
                table.runs.extend_from_slice(new);
                table.end_row()?;
            }
        }
        let evaluated = |part: &Option<Built>| part.as_ref().map_or(0, |built| built.elements_evaluated);
        Ok(Self {
            mask: self.mask.clone(),
            extent: plan.extent,
            block: self.block,
            batch_rows,
            head_rows,
            rows: table.into(),
            origin: self.origin,
            elements_evaluated: self.elements_evaluated + evaluated(&beside) + evaluated(&below),
            transposed: OnceLock::new(),
        })
    }
}
