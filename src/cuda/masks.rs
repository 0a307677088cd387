//! Block masks on a device: the runs in a kernel's own tiles, and what else a launch brings of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use flex_codegen::abi;
use flex_core::attention::Shape;
use flex_core::mask::{BlockMask, RunTable};

use super::kept_keys::KeptKeys;
use super::memory::DeviceBuffer;
use super::tiling::TiledRuns;
use super::work_order::work_order;
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
    let order = work_order(tiled, shape, element_bytes, device.multiprocessors() as usize);

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
