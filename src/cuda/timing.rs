//! Timing of work on a stream, by the device's own clock.

use super::driver::Handle;
use super::memory::DeviceBuffer;
use super::{CudaError, CudaStream};

/// A point in the work of a stream.
#[derive(Debug)]
pub struct CudaEvent {
    stream: CudaStream,
    raw: Handle,
}

impl CudaEvent {
    /// Marks the work that is queued on `stream` by now.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn record(stream: &CudaStream) -> Result<Self, CudaError> {
        let device = stream.device();
        let _context = device.enter()?;
        let mut raw = Handle::NULL;
        // SAFETY: the context is current and `raw` a valid place to write; the event is recorded in the stream's context.
        unsafe {
            device.driver().event_create(&mut raw, 0)?;
            let event = Self { stream: stream.clone(), raw };
            device.driver().event_record(raw, stream.raw())?;
            Ok(event)
        }
    }

    /// The milliseconds from `start` to this point; waits until it is reached.
    ///
    /// # Errors
    /// If the work failed, or `start` is on another device.
    pub fn milliseconds_since(&self, start: &Self) -> Result<f32, CudaError> {
        let device = self.stream.device();
        let _context = device.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events are recorded, and `milliseconds` is a valid place to write.
        unsafe {
            device.driver().event_synchronize(self.raw)?;
            device.driver().event_elapsed(&mut milliseconds, start.raw, self.raw)?;
        }
        Ok(milliseconds)
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        let device = self.stream.device();
        let Ok(_context) = device.enter() else { return };
        // SAFETY: nobody else has the event. At the end of the process the driver may be gone, so errors mean nothing.
        let _ = unsafe { device.driver().event_destroy(self.raw) };
    }
}

/// Overwrites the L2 cache, so that a measured call reads its inputs from device memory as it does in a program.
#[derive(Debug)]
pub struct CacheFlush {
    stream: CudaStream,
    memory: DeviceBuffer,
}

impl CacheFlush {
    /// Allocates memory of four times the size of the cache, to be written on `stream`.
    ///
    /// # Errors
    /// If there is not enough device memory, or the driver fails.
    pub fn new(stream: &CudaStream) -> Result<Self, CudaError> {
        let memory = DeviceBuffer::on_device(stream.device(), 4 * stream.device().l2_bytes())?;
        Ok(Self { stream: stream.clone(), memory })
    }

    /// Queues the overwriting.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn run(&self) -> Result<(), CudaError> {
        let device = self.stream.device();
        let _context = device.enter()?;
        // SAFETY: the memory is live, has that many bytes, and belongs to the current context, as the stream does.
        unsafe { device.driver().fill(self.memory.ptr(), 0, self.memory.bytes(), self.stream.raw()) }
    }
}
