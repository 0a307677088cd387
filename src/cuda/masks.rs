//! Block masks on a device: the runs in a kernel's own tiles, and the order in which to start the work.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use flex_codegen::abi;
use flex_core::attention::Shape;
use flex_core::mask::{BlockMask, RunTable};

use super::kept_keys::KeptKeys;
use super::memory::DeviceBuffer;
use super::tiling::TiledRuns;
use super::{CudaDevice, CudaError};

/// A block mask as kernels read it. One allocation: runs, kept keys, row offsets, work order.
#[derive(Debug)]
pub(super) struct DeviceMask {
    _memory: DeviceBuffer,
    /// Keeps the table's address from being given to another while it identifies this mask.
    _table: Weak<RunTable>,
    pub(super) tables: abi::BlockMask,
    /// Address of the work order; 0 where the kernel's own order is as good.
    pub(super) work_order: u64,
}

/// Which device mask: the identity of a block mask, the tiles, and what the work order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MaskKey {
    /// The address of the mask's run table, and so of nothing else while the table lives.
    pub(super) table: usize,
    pub(super) tile_q: u32,
    pub(super) tile_kv: u32,
    pub(super) shape: Shape,
    pub(super) element_bytes: usize,
}

/// The masks that calls of a device use, each uploaded once.
#[derive(Debug, Default)]
pub(super) struct DeviceMasks {
    masks: HashMap<MaskKey, Weak<DeviceMask>>,
}

impl DeviceMasks {
    /// The mask, if some call has it.
    pub(super) fn get(&self, key: &MaskKey) -> Option<Arc<DeviceMask>> {
        self.masks.get(key)?.upgrade()
    }

    /// Remembers a mask for as long as some call has it.
    pub(super) fn remember(&mut self, key: MaskKey, mask: &Arc<DeviceMask>) {
        self.masks.insert(key, Arc::downgrade(mask));
    }

    /// Forgets the masks that no call has any more.
    pub(super) fn sweep(&mut self) {
        self.masks.retain(|_, mask| mask.strong_count() > 0);
    }
}

/// Copies a mask, as the kernel's tiles see it, to a device; `original` identifies it.
pub(super) fn upload(
    device: CudaDevice,
    original: &BlockMask,
    tiled: &TiledRuns,
    kept: Option<&KeptKeys>,
    shape: &Shape,
    element_bytes: usize,
) -> Result<DeviceMask, CudaError> {
    let kv_head_bytes = shape.kv_len * (shape.head_dim + shape.value_dim) * element_bytes;
    let section = section_kv_heads(
        shape.batch * shape.kv_heads,
        kv_head_bytes,
        tiled.q_tiles * shape.group(),
        device.multiprocessors() as usize,
    );
    let order = work_order(tiled, shape, section * shape.group());

    let mut bytes: Vec<u8> = Vec::new();
    bytes.extend_from_slice(bytemuck::cast_slice(&tiled.runs));
    // Entries of 8 bytes, like the runs, so that both stay aligned.
    let kept_at = bytes.len() as u64;
    let (kept_batch_rows, kept_head_rows) = kept.map_or((0, 0), KeptKeys::strides);
    bytes.extend_from_slice(bytemuck::cast_slice(&kept.map(KeptKeys::table).unwrap_or_default()));
    let offsets_at = bytes.len() as u64;
    bytes.extend_from_slice(bytemuck::cast_slice(&tiled.offsets));
    let order_at = bytes.len() as u64;
    bytes.extend_from_slice(bytemuck::cast_slice(order.as_deref().unwrap_or_default()));

    let memory = DeviceBuffer::uploaded(device, &bytes)?;
    Ok(DeviceMask {
        tables: abi::BlockMask {
            row_offsets: memory.ptr() + offsets_at,
            runs: memory.ptr(),
            kept_keys: if kept.is_some() { memory.ptr() + kept_at } else { 0 },
            kept_batch_rows,
            kept_head_rows,
            batch_rows: tiled.batch_rows as u32,
            head_rows: tiled.head_rows as u32,
        },
        work_order: if order.is_some() { memory.ptr() + order_at } else { 0 },
        _memory: memory,
        _table: Arc::downgrade(original.shared_table()),
    })
}

/// The L2 cache that the keys and values of a section may fill: queries, outputs and the next heads need some, too.
const SECTION_BYTES: usize = 32 << 20;

/// How many key heads to work on at a time: those whose keys and values fit the L2 cache, but not so few that
/// multiprocessors wait for each other at the end of a section, and not so many that each reads a head of its own from
/// memory. Sections are about equally long, so that the last does not have too few items to share out.
fn section_kv_heads(
    kv_heads: usize,
    kv_head_bytes: usize,
    items_per_kv_head: usize,
    multiprocessors: usize,
) -> usize {
    let cached = SECTION_BYTES / kv_head_bytes.max(1);
    let balanced = (8 * multiprocessors).div_ceil(items_per_kv_head.max(1)).min(multiprocessors / 8);
    let at_most = cached.max(balanced).max(1);
    let sections = kv_heads.div_ceil(at_most).max(1);
    kv_heads.div_ceil(sections)
}

/// The work items in the order in which to start them: head sections one after another, in each the longest lists of
/// tiles first, so that no long list is left for the end. `None` where all lists are equally long.
fn work_order(tiled: &TiledRuns, shape: &Shape, section_heads: usize) -> Option<Vec<u32>> {
    let costs: Vec<u64> = (0..tiled.rows()).map(|row| tiled.cost(row)).collect();
    if costs.iter().all(|&cost| cost == costs[0]) {
        return None;
    }
    let (q_tiles, all_heads) = (tiled.q_tiles, shape.batch * shape.heads);
    let mut order = Vec::with_capacity(all_heads * q_tiles);
    for first in (0..all_heads).step_by(section_heads) {
        let section = order.len();
        // Heads inside, so that equally long lists of neighbouring heads, which may share keys, run side by side.
        for q_tile in 0..q_tiles {
            for head in first..(first + section_heads).min(all_heads) {
                let (batch, head_in_batch) = (head / shape.heads, head % shape.heads);
                let row = batch * tiled.batch_rows + head_in_batch * tiled.head_rows + q_tile;
                order.push((Reverse(costs[row]), (head * q_tiles + q_tile) as u32));
            }
        }
        order[section..].sort_by_key(|&(cost, _)| cost);
    }
    Some(order.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{causal, sliding_window};
    use flex_core::mask::{BlockSize, Extent};

    fn shape(batch: usize, heads: usize, len: usize) -> Shape {
        let qkv = [batch, heads, len, 64];
        Shape::new(qkv, qkv, qkv).unwrap()
    }

    fn tiled(mask: crate::MaskMod, shape: &Shape) -> TiledRuns {
        let mask = BlockMask::builder(&mask).build(shape.extent()).unwrap();
        TiledRuns::of(&mask, BlockSize { q: 64, kv: 32 }).unwrap()
    }

    #[test]
    fn every_item_is_started_once_and_long_lists_first() {
        let shape = shape(2, 6, 1000);
        let tiled = tiled(causal::bind().unwrap(), &shape);
        for section_heads in [1, 4, 12, 100] {
            let order = work_order(&tiled, &shape, section_heads).unwrap();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..12 * 16));
            for section in order.chunks(section_heads.min(12) * 16) {
                let costs: Vec<u64> = section.iter().map(|item| tiled.cost(*item as usize % 16)).collect();
                assert!(costs.is_sorted_by(|a, b| a >= b), "{costs:?}");
                let heads = section.iter().map(|item| item / 16);
                assert!(heads.clone().max().unwrap() - heads.min().unwrap() < section_heads as u32);
            }
        }
    }

    #[test]
    fn equal_lists_keep_the_kernels_own_order() {
        let shape = shape(1, 2, 128);
        assert_eq!(work_order(&tiled(crate::MaskMod::all(), &shape), &shape, 2), None);
        assert!(work_order(&tiled(sliding_window::bind(8).unwrap(), &shape), &shape, 2).is_some());
    }

    #[test]
    fn sections_fill_the_cache_and_the_multiprocessors_evenly() {
        let section = |heads, head_bytes, items| section_kv_heads(heads, head_bytes, items, 132);
        assert_eq!(section(32, 2 << 20, 64), 16, "as many as the cache holds");
        assert_eq!(section(20, 2 << 20, 64), 10, "two equal sections rather than 16 and 4");
        assert_eq!(section(16, 8 << 20, 64), 16, "8 items a multiprocessor, though the cache holds 4 heads");
        assert_eq!(section(256, 8 << 20, 2), 16, "not a head a multiprocessor");
        assert_eq!(section(1, 1 << 40, 1), 1);
    }

    #[test]
    fn retiled_masks_cover_the_extent() {
        let shape = shape(1, 1, 300);
        let tiled = tiled(causal::bind().unwrap(), &shape);
        assert_eq!((tiled.q_tiles, tiled.rows()), (5, 5));
        assert_eq!(tiled.runs.last().map(|run| run.end()), Some(10));
        let extent = Extent { batch: 1, heads: 1, q_len: 300, kv_len: 300 };
        assert_eq!(shape.extent(), extent);
    }
}
