//! Records in which kernels note the first fault of a launch.

use std::sync::{Mutex, PoisonError};

use flex_codegen::abi;

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError, CudaStream};

/// The records of a device that no launch is using, all zero.
#[derive(Debug, Default)]
pub(super) struct FaultRecords {
    free: Mutex<Vec<DeviceBuffer>>,
}

/// A record for one launch.
#[derive(Debug)]
pub(super) struct FaultRecord {
    device: CudaDevice,
    /// Taken when the record goes back, or is given up because its contents are unknown.
    memory: Option<DeviceBuffer>,
}

impl FaultRecords {
    /// A record that is zero, for work on any stream of the device.
    pub(super) fn take(&self, device: CudaDevice) -> Result<FaultRecord, CudaError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = match free {
            Some(memory) => memory,
            None => DeviceBuffer::uploaded(device, &[abi::Fault::default()])?,
        };
        Ok(FaultRecord { device, memory: Some(memory) })
    }

    /// Frees the records that no launch is using.
    pub(super) fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl FaultRecord {
    /// Its address.
    pub(super) fn ptr(&self) -> u64 {
        self.memory.as_ref().map_or(0, DeviceBuffer::ptr)
    }

    /// Waits for the launch and returns what it noted. The record goes back, zero again.
    pub(super) fn read(mut self, stream: &CudaStream) -> Result<abi::Fault, CudaError> {
        let mut record = abi::Fault::default();
        // A failure drops the memory with its unknown contents.
        let Some(memory) = self.memory.take() else { return Ok(record) };
        memory.download(stream, 0, bytemuck::bytes_of_mut(&mut record))?;
        if record.claimed != 0 {
            memory.upload(stream, 0, bytemuck::bytes_of(&abi::Fault::default()))?;
        }
        self.device.faults().free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        Ok(record)
    }
}
