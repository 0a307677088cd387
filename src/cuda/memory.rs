//! Device memory and copies.

use bytemuck::Pod;

use super::driver::{DevicePtr, constants};
use super::{CudaDevice, CudaError, CudaStream};

/// Device memory: owned, or borrowed for as long as its user vouches for.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    ptr: DevicePtr,
    bytes: usize,
    home: Home,
}

/// Where memory came from and goes back to.
#[derive(Debug)]
enum Home {
    /// The pool, in the order of a stream: for tensors.
    Stream(CudaStream),
    /// The device: for what lives long. Freeing it waits for the device, so that no stream can still be reading. The
    /// stream orders the owner's work.
    Device(CudaStream),
    /// Somebody else, who frees it.
    Borrowed(CudaStream),
}

impl DeviceBuffer {
    /// Memory with undefined contents that may be used by work that follows on `stream`.
    pub(crate) fn on_stream(stream: &CudaStream, bytes: usize) -> Result<Self, CudaError> {
        let device = stream.device();
        let Some(pool) = device.pool() else { return Self::outside_pool(stream.clone(), bytes) };
        let _context = device.enter()?;
        let mut ptr = 0;
        // An empty allocation is refused.
        let size = bytes.max(MIN_BYTES);
        // SAFETY: pool and stream are live and of the current context; `ptr` is a valid place to write.
        let mut allocate = || unsafe { device.driver().pool_alloc(&mut ptr, size, pool, stream.raw()) };
        if let Err(error) = allocate() {
            if !is_out_of_memory(&error) {
                return Err(error);
            }
            device.trim()?;
            allocate().map_err(|error| out_of_memory(device, size, error))?;
        }
        Ok(Self { ptr, bytes, home: Home::Stream(stream.clone()) })
    }

    /// Memory with undefined contents that outlives streams.
    pub(super) fn on_device(device: CudaDevice, bytes: usize) -> Result<Self, CudaError> {
        Self::outside_pool(device.stream()?.clone(), bytes)
    }

    /// Memory of somebody else, which outlives the value and the work that uses it.
    pub(super) fn borrowed(device: CudaDevice, ptr: DevicePtr, bytes: usize) -> Result<Self, CudaError> {
        Ok(Self { ptr, bytes, home: Home::Borrowed(device.stream()?.clone()) })
    }

    /// Whether somebody else owns it.
    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self.home, Home::Borrowed(_))
    }

    fn outside_pool(stream: CudaStream, bytes: usize) -> Result<Self, CudaError> {
        let device = stream.device();
        let _context = device.enter()?;
        let mut ptr = 0;
        let size = bytes.max(MIN_BYTES);
        // SAFETY: the context is current and `ptr` a valid place to write.
        unsafe { device.driver().memory_alloc(&mut ptr, size) }
            .map_err(|error| out_of_memory(device, size, error))?;
        Ok(Self { ptr, bytes, home: Home::Device(stream) })
    }

    /// A copy of host memory that outlives streams; it is there when this returns.
    pub(super) fn uploaded<T: Pod>(device: CudaDevice, elements: &[T]) -> Result<Self, CudaError> {
        if elements.is_empty() {
            // An index into an empty array is clamped to 0, and what is read there must at least be defined.
            return Self::uploaded(device, &[0u8; MIN_BYTES]);
        }
        let buffer = Self::on_device(device, size_of_val(elements))?;
        buffer.upload(device.stream()?, 0, bytemuck::cast_slice(elements))?;
        Ok(buffer)
    }

    /// The first address.
    pub(crate) fn ptr(&self) -> DevicePtr {
        self.ptr
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The device it is on.
    pub(crate) fn device(&self) -> CudaDevice {
        self.stream().device()
    }

    /// The stream that its owner's work is ordered by.
    pub(crate) fn stream(&self) -> &CudaStream {
        let (Home::Stream(stream) | Home::Device(stream) | Home::Borrowed(stream)) = &self.home;
        stream
    }

    /// Copies host memory to byte `offset`, after the work on `stream`; done when this returns.
    pub(crate) fn upload(&self, stream: &CudaStream, offset: usize, from: &[u8]) -> Result<(), CudaError> {
        self.check(offset, from.len());
        if from.is_empty() {
            return Ok(());
        }
        let device = stream.device();
        let _context = device.enter()?;
        // SAFETY: the range is inside the buffer, the source is readable, and the copy ends before this returns.
        unsafe {
            let driver = device.driver();
            driver.copy_to_device(
                self.ptr + offset as u64,
                from.as_ptr().cast(),
                from.len(),
                stream.raw(),
            )?;
            driver.stream_synchronize(stream.raw())
        }
    }

    /// Copies from byte `offset` to host memory, after the work on `stream`; done when this returns.
    pub(crate) fn download(
        &self,
        stream: &CudaStream,
        offset: usize,
        to: &mut [u8],
    ) -> Result<(), CudaError> {
        self.check(offset, to.len());
        if to.is_empty() {
            return Ok(());
        }
        let device = stream.device();
        let _context = device.enter()?;
        // SAFETY: the range is inside the buffer, the target is writable, and the copy ends before this returns.
        unsafe {
            let driver = device.driver();
            driver.copy_to_host(to.as_mut_ptr().cast(), self.ptr + offset as u64, to.len(), stream.raw())?;
            driver.stream_synchronize(stream.raw())
        }
    }

    fn check(&self, offset: usize, len: usize) {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.bytes);
        assert!(inside, "{len} bytes from {offset} leave a device buffer of {} bytes", self.bytes);
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let device = self.device();
        let Ok(_context) = device.enter() else { return };
        // SAFETY: the memory is ours. From the pool it is freed after the work on its stream; otherwise the driver waits
        // for the device. At the end of the process the driver may be gone, so errors mean nothing.
        let _ = unsafe {
            match &self.home {
                Home::Stream(stream) => device.driver().pool_free(self.ptr, stream.raw()),
                Home::Device(_) => device.driver().memory_free(self.ptr),
                Home::Borrowed(_) => Ok(()),
            }
        };
    }
}

const MIN_BYTES: usize = 16;

fn is_out_of_memory(error: &CudaError) -> bool {
    matches!(error, CudaError::Driver { code: constants::ERROR_OUT_OF_MEMORY, .. })
}

fn out_of_memory(device: CudaDevice, requested: usize, error: CudaError) -> CudaError {
    if !is_out_of_memory(&error) {
        return error;
    }
    CudaError::OutOfMemory {
        ordinal: device.ordinal(),
        requested,
        free: device.free_memory().unwrap_or(0),
        total: device.total_memory(),
    }
}
