//! Streams, our own and borrowed ones.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::{Handle, constants};
use super::{CudaDevice, CudaError};

/// A stream of a GPU: work on one stream runs in order. Cheap to clone; may be used from several threads.
#[derive(Clone, Debug)]
pub struct CudaStream(Arc<StreamState>);

#[derive(Debug)]
struct StreamState {
    device: CudaDevice,
    raw: Handle,
    /// Unlike the handle, never given to another stream again.
    id: u64,
    owned: bool,
    /// The event with which other streams wait for this one; made when first needed. Recording and waiting are one
    /// critical section, so a single event serves all.
    join: Mutex<Option<Handle>>,
}

impl CudaStream {
    /// A new stream that does not wait for the legacy default stream. It is destroyed with its last clone, after its
    /// work.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn new(device: CudaDevice) -> Result<Self, CudaError> {
        let _context = device.enter()?;
        let mut raw = Handle::NULL;
        // SAFETY: the context is current and `raw` is a valid place to write.
        unsafe { device.driver().stream_create(&mut raw, constants::STREAM_NON_BLOCKING)? };
        Self::with_handle(device, raw, true)
    }

    /// A stream of another library, as its `CUstream`; null is the legacy default stream.
    ///
    /// # Errors
    /// If the stream belongs to another device.
    ///
    /// # Safety
    /// `raw` is a live stream of this process, and stays so while this value, its clones, or tensors that were made on
    /// it live.
    pub unsafe fn from_raw(device: CudaDevice, raw: *mut c_void) -> Result<Self, CudaError> {
        let _context = device.enter()?;
        let raw = Handle(raw);
        let mut context = Handle::NULL;
        // SAFETY: the caller vouches for the stream; `context` is a valid place to write.
        unsafe { device.driver().stream_context(raw, &mut context)? };
        if context != device.context() {
            return Err(CudaError::ForeignStream { ordinal: device.ordinal() });
        }
        Self::with_handle(device, raw, false)
    }

    fn with_handle(device: CudaDevice, raw: Handle, owned: bool) -> Result<Self, CudaError> {
        let mut id = 0;
        // SAFETY: the stream is live, its context current, and `id` a valid place to write.
        unsafe { device.driver().stream_id(raw, &mut id)? };
        Ok(Self(Arc::new(StreamState { device, raw, id, owned, join: Mutex::new(None) })))
    }

    /// The device it belongs to.
    pub fn device(&self) -> CudaDevice {
        self.0.device
    }

    /// The `CUstream`, for other libraries.
    pub fn as_raw(&self) -> *mut c_void {
        self.0.raw.0
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// If the work failed or the driver fails.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let _context = self.0.device.enter()?;
        // SAFETY: the stream is live and its context current.
        unsafe { self.0.device.driver().stream_synchronize(self.0.raw) }
    }

    /// Makes the work that is queued here from now on wait for what is queued on `other` by now; the host does not
    /// wait.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn wait_for(&self, other: &Self) -> Result<(), CudaError> {
        if self.is(other) {
            return Ok(());
        }
        let driver = other.0.device.driver();
        let mut join = other.0.join.lock().unwrap_or_else(PoisonError::into_inner);
        let event = {
            let _context = other.0.device.enter()?;
            let event = match *join {
                Some(event) => event,
                None => {
                    let mut event = Handle::NULL;
                    // SAFETY: the context is current and `event` a valid place to write.
                    unsafe { driver.event_create(&mut event, constants::EVENT_DISABLE_TIMING)? };
                    *join.insert(event)
                }
            };
            // SAFETY: event and stream are live and of the current context.
            unsafe { driver.event_record(event, other.0.raw)? };
            event
        };
        let _context = self.0.device.enter()?;
        // SAFETY: the stream is live; an event may be waited for from other contexts.
        unsafe { driver.stream_wait_event(self.0.raw, event, 0) }
    }

    /// Whether both are one stream.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.device == other.0.device && self.0.id == other.0.id
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn raw(&self) -> Handle {
        self.0.raw
    }

    /// Whether its work goes into a graph instead of running.
    pub(super) fn is_capturing(&self) -> Result<bool, CudaError> {
        let mut status = 0;
        // SAFETY: the stream is live and `status` a valid place to write.
        unsafe { self.0.device.driver().stream_is_capturing(self.0.raw, &mut status)? };
        Ok(status != 0)
    }
}

impl Drop for StreamState {
    fn drop(&mut self) {
        let Ok(_context) = self.device.enter() else { return };
        let driver = self.device.driver();
        let event = self.join.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: nobody else has the event or, where it is ours, the stream; the driver finishes their work first. At
        // the end of the process the driver may be gone, so errors mean nothing.
        unsafe {
            if let Some(event) = event {
                let _ = driver.event_destroy(event);
            }
            if self.owned {
                let _ = driver.stream_destroy(self.raw);
            }
        }
    }
}
