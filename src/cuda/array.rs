//! Captured arrays that are on a GPU already.

use std::marker::PhantomData;
use std::sync::Arc;

use flex_core::capture::{Array, CaptureElement, IntoArray, View, ViewError};
use flex_core::ir::Type;

use super::memory::DeviceBuffer;
use super::{CudaDevice, CudaError};
use crate::Error;

/// An array of rank `N` in device memory of somebody else, to be captured by a mod: `document::bind(&ids)`. Kernels on
/// its device read it where it lies.
///
/// The host has a copy, from which the analysis proves tiles and bounds, and which other devices get.
#[derive(Clone, Debug)]
pub struct CudaArray<T, const N: usize> {
    array: Arc<Array>,
    _elements: PhantomData<T>,
}

impl<T: CaptureElement, const N: usize> CudaArray<T, N> {
    /// The row-major array at device address `ptr`; bool elements are bytes of 0 and 1, the others have four bytes. Copies it
    /// to the host.
    ///
    /// # Errors
    /// If an axis is longer than `i32::MAX`, the address is not aligned to the elements, or the driver fails.
    ///
    /// # Safety
    /// The memory is allocated on `device` and holds as many elements as the shape says; the work that wrote it is done,
    /// and nothing writes it or frees it while a mod that captured the array, a clone of this value, or queued work with
    /// them lives.
    pub unsafe fn from_raw_parts(device: CudaDevice, ptr: u64, shape: [usize; N]) -> Result<Self, Error> {
        let size = if T::TYPE == Type::Bool { 1 } else { 4 };
        if !ptr.is_multiple_of(size as u64) {
            return Err(CudaError::Misaligned { tensor: "the array", address: ptr, align: size }.into());
        }
        let too_large = || ViewError::TooLarge { shape: shape.to_vec() };
        let fits = shape.iter().all(|&len| len <= i32::MAX as usize);
        let bytes = shape.iter().try_fold(size, |bytes: usize, &len| bytes.checked_mul(len));
        let bytes = bytes.filter(|&bytes| fits && bytes <= isize::MAX as usize).ok_or_else(too_large)?;
        let memory = DeviceBuffer::borrowed(device, ptr, bytes)?;
        let array = on_host(T::TYPE, &memory, shape)?;
        // Kernels may read the first element even of an array that has none, which only our own copy allows.
        if bytes > 0 {
            device.calls().adopt(&array, memory);
        }
        Ok(Self { array, _elements: PhantomData })
    }
}

/// A copy of the elements.
fn on_host<const N: usize>(ty: Type, memory: &DeviceBuffer, shape: [usize; N]) -> Result<Arc<Array>, Error> {
    fn words<T: CaptureElement + bytemuck::Pod, const N: usize>(
        memory: &DeviceBuffer,
        shape: [usize; N],
    ) -> Result<Arc<Array>, Error> {
        let mut elements = vec![T::zeroed(); memory.bytes() / size_of::<T>()];
        memory.download(memory.stream(), 0, bytemuck::cast_slice_mut(&mut elements))?;
        Ok(View::new(&elements, shape)?.into_array())
    }
    match ty {
        Type::I32 => words::<i32, N>(memory, shape),
        Type::U32 => words::<u32, N>(memory, shape),
        Type::F32 => words::<f32, N>(memory, shape),
        Type::Bool => {
            let mut bytes = vec![0u8; memory.bytes()];
            memory.download(memory.stream(), 0, &mut bytes)?;
            let elements: Vec<bool> = bytes.into_iter().map(|byte| byte != 0).collect();
            Ok(View::new(&elements, shape)?.into_array())
        }
    }
}

impl<T: CaptureElement, const N: usize> IntoArray<T, N> for CudaArray<T, N> {
    fn into_array(self) -> Arc<Array> {
        self.array
    }
}

impl<T: CaptureElement, const N: usize> IntoArray<T, N> for &CudaArray<T, N> {
    fn into_array(self) -> Arc<Array> {
        Arc::clone(&self.array)
    }
}
