//! Copies of captured arrays on a device: made once, shared by all calls, gone when no mod has the array any more.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use flex_core::capture::{Array, ArrayData};

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError};

/// The copies of a device, by the id of the array.
#[derive(Debug, Default)]
pub(super) struct CaptureCopies {
    copies: HashMap<u64, Copy>,
}

#[derive(Debug)]
struct Copy {
    original: Weak<Array>,
    memory: Arc<DeviceBuffer>,
}

impl CaptureCopies {
    /// The copy of an array, if there is one.
    pub(super) fn get(&self, array: &Arc<Array>) -> Option<Arc<DeviceBuffer>> {
        self.copies.get(&array.id()).map(|copy| copy.memory.clone())
    }

    /// Keeps a copy, unless another thread was quicker; returns the one that is kept.
    pub(super) fn keep(&mut self, array: &Arc<Array>, memory: DeviceBuffer) -> Arc<DeviceBuffer> {
        let new = || Copy { original: Arc::downgrade(array), memory: Arc::new(memory) };
        self.copies.entry(array.id()).or_insert_with(new).memory.clone()
    }

    /// Takes out all copies; memory that is not ours stays known.
    pub(super) fn clear(&mut self) -> Vec<Arc<DeviceBuffer>> {
        let ours = self.copies.extract_if(|_, copy| !copy.memory.is_borrowed());
        ours.map(|(_, copy)| copy.memory).collect()
    }

    /// Takes out the copies of arrays that no mod has any more.
    pub(super) fn sweep(&mut self) -> Vec<Arc<DeviceBuffer>> {
        let orphans = self.copies.extract_if(|_, copy| copy.original.strong_count() == 0);
        orphans.map(|(_, copy)| copy.memory).collect()
    }
}

/// Copies an array to a device.
pub(super) fn upload(device: CudaDevice, array: &Array) -> Result<DeviceBuffer, CudaError> {
    match array.data() {
        ArrayData::Bool(data) => {
            let bytes: Vec<u8> = data.iter().map(|&x| x.into()).collect();
            DeviceBuffer::uploaded(device, &bytes)
        }
        ArrayData::I32(data) => DeviceBuffer::uploaded(device, data),
        ArrayData::U32(data) => DeviceBuffer::uploaded(device, data),
        ArrayData::F32(data) => DeviceBuffer::uploaded(device, data),
    }
}
