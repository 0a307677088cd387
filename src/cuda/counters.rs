//! The counters from which persistent kernels draw their work. A launch finds its counter at zero and leaves it there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError, CudaStream};

/// Counters in an allocation.
const CHUNK: usize = 1024;

/// The counters of a device: one a stream, since launches on a stream run one after the other.
#[derive(Debug, Default)]
pub(super) struct WorkCounters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    of_streams: HashMap<u64, u64>,
    chunks: Vec<DeviceBuffer>,
    used_of_last: usize,
}

impl WorkCounters {
    /// The address of the counter for a launch on `stream`, which may be captured into a graph.
    pub(super) fn get(&self, stream: &CudaStream, capturing: bool) -> Result<u64, CudaError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if capturing {
            // A graph may run beside its stream, so each of its launches has a counter to itself.
            return state.new_counter(stream.device());
        }
        if let Some(&counter) = state.of_streams.get(&stream.id()) {
            return Ok(counter);
        }
        let counter = state.new_counter(stream.device())?;
        state.of_streams.insert(stream.id(), counter);
        Ok(counter)
    }
}

impl State {
    fn new_counter(&mut self, device: CudaDevice) -> Result<u64, CudaError> {
        if self.chunks.is_empty() || self.used_of_last == CHUNK {
            let _beside = device.beside_captures()?;
            self.chunks.push(DeviceBuffer::uploaded(device, &[0u32; CHUNK])?);
            self.used_of_last = 0;
        }
        let offset = self.used_of_last * size_of::<u32>();
        self.used_of_last += 1;
        Ok(self.chunks.last().map_or(0, DeviceBuffer::ptr) + offset as u64)
    }
}
