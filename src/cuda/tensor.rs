//! Tensors in device memory: borrowed ones of any library, and the storage of our own.

use std::marker::PhantomData;
use std::sync::Arc;

use flex_core::attention::DType;

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError, CudaStream};
use crate::Error;
use crate::tensor::{HostBuffer, Storage, Tensor, TensorArg, TensorError, contiguous_strides};

/// A borrowed tensor `[batch, heads, len, head_dim]` in device memory, with any strides. This is what kernels read;
/// a [`Tensor`] and the tensors of other libraries become one without a copy.
#[derive(Clone, Copy, Debug)]
pub struct CudaTensorRef<'a> {
    ptr: u64,
    dtype: DType,
    shape: [usize; 4],
    strides: [usize; 4],
    stream: &'a CudaStream,
}

impl<'a> CudaTensorRef<'a> {
    /// A tensor at device address `ptr`, with strides in elements (0 repeats). What calls compute with it comes after
    /// the work queued on `stream` by then, and the work queued there later comes after it.
    ///
    /// # Safety
    /// While `'a` and until the work that uses it is done, the memory is allocated on the device of `stream`, holds the
    /// elements that shape and strides address, and is written only by work that is ordered by `stream`.
    pub unsafe fn from_raw_parts(
        stream: &'a CudaStream,
        ptr: u64,
        dtype: DType,
        shape: [usize; 4],
        strides: [usize; 4],
    ) -> Self {
        Self { ptr, dtype, shape, strides, stream }
    }

    pub(crate) fn of(tensor: &Tensor, buffer: &'a DeviceBuffer) -> Self {
        Self {
            ptr: buffer.ptr() + (tensor.offset * tensor.dtype.size()) as u64,
            dtype: tensor.dtype,
            shape: tensor.shape,
            strides: tensor.strides,
            stream: buffer.stream(),
        }
    }

    /// Its address on the device.
    pub fn ptr(&self) -> u64 {
        self.ptr
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// `[batch, heads, len, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The distance in elements from one index to the next, a dimension; 0 repeats.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The stream whose work it is ordered by.
    pub fn stream(&self) -> &'a CudaStream {
        self.stream
    }

    /// Where it is.
    pub fn device(&self) -> CudaDevice {
        self.stream.device()
    }
}

impl<'a> TryFrom<&'a Tensor> for CudaTensorRef<'a> {
    type Error = Error;

    /// # Errors
    /// If the tensor is in host memory.
    fn try_from(tensor: &'a Tensor) -> Result<Self, Error> {
        match tensor.as_arg() {
            TensorArg::Cuda(on_device) => Ok(on_device),
            TensorArg::Host(_) => Err(Error::NotOnGpu { tensor: "tensor" }),
        }
    }
}

/// A borrowed tensor in device memory to be written, as [`CudaTensorRef`].
#[derive(Debug)]
pub struct CudaTensorMut<'a> {
    view: CudaTensorRef<'a>,
    _exclusive: PhantomData<&'a mut [u8]>,
}

impl<'a> CudaTensorMut<'a> {
    /// A tensor at device address `ptr`, with strides in elements.
    ///
    /// # Safety
    /// As [`CudaTensorRef::from_raw_parts`], and nothing else reads or writes the memory except work that is ordered by
    /// `stream`.
    pub unsafe fn from_raw_parts(
        stream: &'a CudaStream,
        ptr: u64,
        dtype: DType,
        shape: [usize; 4],
        strides: [usize; 4],
    ) -> Self {
        // SAFETY: the caller's promise includes the one for reading.
        let view = unsafe { CudaTensorRef::from_raw_parts(stream, ptr, dtype, shape, strides) };
        Self { view, _exclusive: PhantomData }
    }

    /// A tensor of ours, if nothing else shares its elements; `name` is for the error.
    pub(crate) fn of(name: &'static str, tensor: &'a mut Tensor) -> Result<Self, Error> {
        if let Storage::Cuda(buffer) = &mut tensor.storage
            && Arc::get_mut(buffer).is_none()
        {
            return Err(TensorError::Shared { tensor: name }.into());
        }
        Ok(Self { view: CudaTensorRef::try_from(&*tensor)?, _exclusive: PhantomData })
    }

    /// The same memory, to be read.
    pub fn as_ref(&self) -> CudaTensorRef<'_> {
        self.view
    }
}

/// A contiguous tensor with undefined elements, for work that follows on `stream`.
pub(super) fn uninit(stream: &CudaStream, dtype: DType, shape: [usize; 4]) -> Result<Tensor, CudaError> {
    let buffer = DeviceBuffer::on_stream(stream, shape.iter().product::<usize>() * dtype.size())?;
    let strides = contiguous_strides(shape);
    Ok(Tensor { storage: Storage::Cuda(Arc::new(buffer)), dtype, shape, strides, offset: 0 })
}

/// A contiguous copy of a host tensor.
pub(crate) fn upload(tensor: &Tensor, host: &HostBuffer, device: CudaDevice) -> Result<Tensor, CudaError> {
    let stream = device.stream()?;
    let copy = uninit(stream, tensor.dtype, tensor.shape)?;
    let Storage::Cuda(buffer) = &copy.storage else { unreachable!("made on the device just now") };
    let contiguous = contiguous_strides(tensor.shape);
    let (first, count) = (tensor.offset, tensor.shape.iter().product::<usize>());
    if tensor.strides == contiguous {
        let size = tensor.dtype.size();
        buffer.upload(stream, 0, &host.bytes()[first * size..(first + count) * size])?;
    } else {
        buffer.upload(stream, 0, host.gather(first, tensor.shape, tensor.strides).bytes())?;
    }
    Ok(copy)
}

/// A copy of a device tensor in host memory, with the same strides: only what lies between the first and the last
/// element is copied.
pub(crate) fn download(tensor: &Tensor, buffer: &DeviceBuffer) -> Result<Tensor, Error> {
    let mut host = HostBuffer::zeros(tensor.dtype, tensor.reach())?;
    buffer.download(buffer.stream(), tensor.offset * tensor.dtype.size(), host.bytes_mut())?;
    let (dtype, shape, strides) = (tensor.dtype, tensor.shape, tensor.strides);
    Ok(Tensor { storage: Storage::Host(Arc::new(host)), dtype, shape, strides, offset: 0 })
}
