//! Block masks on a device: the runs in a kernel's own tiles, and the order in which to start the work.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use flex_codegen::abi;
use flex_core::attention::Shape;
use flex_core::mask::{BlockMask, BlockSize, MaskError, RunTable, TileKind};

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError};

/// A block mask as kernels read it. One allocation: runs, row offsets, work order.
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

/// `mask` in tiles of another size.
pub(super) fn in_tiles(mask: &BlockMask, tiles: BlockSize) -> Result<BlockMask, MaskError> {
    BlockMask::builder(mask.mask_mod()).block_size(tiles).build(mask.extent())
}

/// Copies `mask`, which is `original` in the kernel's tiles, to a device.
pub(super) fn upload(
    device: CudaDevice,
    original: &BlockMask,
    mask: &BlockMask,
    shape: &Shape,
    element_bytes: usize,
) -> Result<DeviceMask, CudaError> {
    let table = mask.table();
    let kv_head_bytes = shape.kv_len * (shape.head_dim + shape.value_dim) * element_bytes;
    let order = work_order(mask, shape, heads_in_l2(device.l2_bytes(), kv_head_bytes, shape.group()));

    let mut bytes: Vec<u8> = Vec::new();
    bytes.extend_from_slice(bytemuck::cast_slice(table.runs()));
    let offsets_at = bytes.len() as u64;
    bytes.extend_from_slice(bytemuck::cast_slice(table.offsets()));
    let order_at = bytes.len() as u64;
    bytes.extend_from_slice(bytemuck::cast_slice(order.as_deref().unwrap_or_default()));

    let memory = DeviceBuffer::uploaded(device, &bytes)?;
    let (batch_rows, head_rows) = mask.row_strides();
    Ok(DeviceMask {
        tables: abi::BlockMask {
            row_offsets: memory.ptr() + offsets_at,
            runs: memory.ptr(),
            batch_rows: batch_rows as u32,
            head_rows: head_rows as u32,
        },
        work_order: if order.is_some() { memory.ptr() + order_at } else { 0 },
        _memory: memory,
        _table: Arc::downgrade(original.shared_table()),
    })
}

/// How many query heads to work on at a time, so that their keys and values stay in the L2 cache; whole groups.
fn heads_in_l2(l2_bytes: usize, kv_head_bytes: usize, group: usize) -> usize {
    // Queries, outputs and the next heads need some of the cache too.
    let kv_heads = l2_bytes / 8 * 5 / kv_head_bytes.max(1);
    kv_heads.max(1) * group
}

/// The work items in the order in which to start them: head sections one after another, in each the longest lists of
/// tiles first, so that no long list is left for the end. `None` where all lists are equally long, or there is one item.
fn work_order(mask: &BlockMask, shape: &Shape, section_heads: usize) -> Option<Vec<u32>> {
    let q_tiles = mask.q_blocks();
    let costs: Vec<u64> = (0..mask.table().rows())
        .map(|row| mask.table().row(row).iter().map(|run| u64::from(run.len()) * tile_cost(run.kind())).sum())
        .collect();
    if costs.iter().all(|&cost| cost == costs[0]) {
        return None;
    }
    let (batch_rows, head_rows) = mask.row_strides();
    let all_heads = shape.batch * shape.heads;
    let mut order = Vec::with_capacity(all_heads * q_tiles);
    for first in (0..all_heads).step_by(section_heads) {
        let section = order.len();
        let heads = first..(first + section_heads).min(all_heads);
        // Heads inside, so that equally long lists of neighbouring heads, which may share keys, run side by side.
        for q_tile in 0..q_tiles {
            for head in heads.clone() {
                let row = head / shape.heads * batch_rows + head % shape.heads * head_rows + q_tile;
                order.push((Reverse(costs[row]), (head * q_tiles + q_tile) as u32));
            }
        }
        order[section..].sort_by_key(|&(cost, _)| cost);
    }
    Some(order.into_iter().map(|(_, item)| item).collect())
}

/// The time of a tile in quarters of that of a full one.
fn tile_cost(kind: TileKind) -> u64 {
    match kind {
        TileKind::Full => 4,
        TileKind::Partial => 5,
    }
}
