//! Tensors `[batch, heads, len, head_dim]`, owned or borrowed, with any strides.

mod arg;
mod element;
mod error;

#[cfg(feature = "cuda")]
pub(crate) use arg::check_result;
pub use arg::{TensorArg, TensorArgMut};
pub use element::Element;
pub(crate) use element::{HostBuffer, zeroed};
pub use error::TensorError;
pub use flex_core::attention::{DType, Elements, TensorRef};

use std::sync::Arc;

use crate::{Device, Error};

/// A tensor `[batch, heads, len, head_dim]` of f32, f16 or bf16, in host memory or on a GPU ([`to`](Self::to)).
///
/// Cheap to clone: clones and views ([`transpose`](Self::transpose), [`narrow`](Self::narrow),
/// [`expand`](Self::expand)) share the elements.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) storage: Storage,
    pub(crate) dtype: DType,
    pub(crate) shape: [usize; 4],
    pub(crate) strides: [usize; 4],
    /// The element that the first index addresses.
    pub(crate) offset: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Host(Arc<HostBuffer>),
    #[cfg(feature = "cuda")]
    Cuda(Arc<crate::cuda::DeviceBuffer>),
}

impl Tensor {
    /// A tensor of row-major elements.
    ///
    /// # Errors
    /// If a dimension is 0 or the number of elements is not the shape's.
    pub fn from_vec<T: Element>(elements: Vec<T>, shape: [usize; 4]) -> Result<Self, TensorError> {
        let expected = element_count(shape)?;
        if expected != elements.len() {
            return Err(TensorError::ElementCount { shape, expected, got: elements.len() });
        }
        Ok(Self::from_buffer(T::into_buffer(elements), shape))
    }

    /// A tensor copied from row-major elements.
    ///
    /// # Errors
    /// As [`from_vec`](Self::from_vec).
    pub fn from_slice<T: Element>(elements: &[T], shape: [usize; 4]) -> Result<Self, TensorError> {
        Self::from_vec(elements.to_vec(), shape)
    }

    /// A tensor computed from its indices `[batch, head, position, component]`.
    ///
    /// # Errors
    /// If a dimension is 0, the number of elements overflows, or there is no memory for them.
    pub fn from_fn<T: Element>(
        shape: [usize; 4],
        mut element: impl FnMut([usize; 4]) -> T,
    ) -> Result<Self, TensorError> {
        let mut elements = element::reserved(element_count(shape)?)?;
        for b in 0..shape[0] {
            for h in 0..shape[1] {
                for s in 0..shape[2] {
                    elements.extend((0..shape[3]).map(|d| element([b, h, s, d])));
                }
            }
        }
        Self::from_vec(elements, shape)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// If a dimension is 0, the number of elements overflows, or there is no memory for them.
    pub fn zeros(dtype: DType, shape: [usize; 4]) -> Result<Self, TensorError> {
        Ok(Self::from_buffer(HostBuffer::zeros(dtype, element_count(shape)?)?, shape))
    }

    pub(crate) fn from_buffer(buffer: HostBuffer, shape: [usize; 4]) -> Self {
        let dtype = buffer.dtype();
        let strides = contiguous_strides(shape);
        Self { storage: Storage::Host(Arc::new(buffer)), dtype, shape, strides, offset: 0 }
    }

    /// `[batch, heads, len, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The distance in elements from one index to the next, a dimension; 0 repeats.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Host(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer) => Device::Cuda(buffer.device()),
        }
    }

    /// The tensor on a device: itself if it is there, otherwise a contiguous copy.
    ///
    /// # Errors
    /// If the device has no memory left, or the driver fails.
    pub fn to(&self, device: &Device) -> Result<Self, Error> {
        match (&self.storage, device) {
            _ if self.device() == *device => Ok(self.clone()),
            #[cfg(feature = "cuda")]
            (Storage::Host(host), Device::Cuda(gpu)) => Ok(crate::cuda::upload(self, host, *gpu)?),
            #[cfg(feature = "cuda")]
            (Storage::Cuda(buffer), Device::Cpu) => crate::cuda::download(self, buffer),
            // From one GPU to another, by way of the host.
            _ => self.to(&Device::Cpu)?.to(device),
        }
    }

    /// The tensor with two dimensions exchanged, sharing the elements: `transpose(1, 2)` sees
    /// `[batch, len, heads, head_dim]` data as `[batch, heads, len, head_dim]`.
    ///
    /// # Errors
    /// If a dimension is over 3.
    pub fn transpose(&self, first: usize, second: usize) -> Result<Self, TensorError> {
        for dimension in [first, second] {
            check_dimension(dimension)?;
        }
        let mut view = self.clone();
        view.shape.swap(first, second);
        view.strides.swap(first, second);
        Ok(view)
    }

    /// `len` indices of one dimension from `start`, sharing the elements.
    ///
    /// # Errors
    /// If the dimension is over 3, or the range is empty or leaves it.
    pub fn narrow(&self, dimension: usize, start: usize, len: usize) -> Result<Self, TensorError> {
        check_dimension(dimension)?;
        let available = self.shape[dimension];
        if len == 0 || start.checked_add(len).is_none_or(|end| end > available) {
            return Err(TensorError::Range { dimension, start, len, available });
        }
        let mut view = self.clone();
        view.offset += start * self.strides[dimension];
        view.shape[dimension] = len;
        Ok(view)
    }

    /// A dimension of length 1 repeated `len` times without copying.
    ///
    /// # Errors
    /// If the dimension is over 3 or its length is not 1, or `len` is 0, over `i32::MAX`, or so large that the number of
    /// elements overflows.
    pub fn expand(&self, dimension: usize, len: usize) -> Result<Self, TensorError> {
        check_dimension(dimension)?;
        if self.shape[dimension] != 1 || len == 0 {
            return Err(TensorError::Expand { dimension, got: self.shape[dimension], len });
        }
        let mut view = self.clone();
        view.shape[dimension] = len;
        view.strides[dimension] = 0;
        element_count(view.shape)?;
        Ok(view)
    }

    /// The same values in another type, contiguous, on the same device; f32 to f16 or bf16 rounds to nearest even. The
    /// conversion is computed on the host.
    ///
    /// # Errors
    /// If the tensor is on a GPU and copying fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self, Error> {
        let converted = HostBuffer::from_f32(dtype, self.to_f32_vec()?);
        Self::from_buffer(converted, self.shape).to(&self.device())
    }

    /// The elements in row-major order, widened to f32 (exact), wherever the tensor is.
    ///
    /// # Errors
    /// If there is no memory for them, or the tensor is on a GPU and copying fails.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>, Error> {
        let on_host = self.to(&Device::Cpu)?;
        let buffer = on_host.host_buffer()?;
        let mut out = element::reserved(self.shape.iter().product())?;
        let all = buffer.elements();
        for_each_offset(on_host.shape, on_host.strides, |offset| out.push(all.get(on_host.offset + offset)));
        Ok(out)
    }

    /// The elements in row-major order, wherever the tensor is.
    ///
    /// # Errors
    /// If the tensor has another type, there is no memory for the elements, or it is on a GPU and copying fails.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, Error> {
        let on_host = self.to(&Device::Cpu)?;
        let buffer = on_host.host_buffer()?;
        let Some(all) = T::from_elements(buffer.elements()) else {
            return Err(TensorError::WrongType { expected: self.dtype, got: T::DTYPE }.into());
        };
        let mut out = element::reserved(self.shape.iter().product())?;
        for_each_offset(on_host.shape, on_host.strides, |offset| out.push(all[on_host.offset + offset]));
        Ok(out)
    }

    fn host_buffer(&self) -> Result<&HostBuffer, Error> {
        match &self.storage {
            Storage::Host(buffer) => Ok(buffer),
            #[cfg(feature = "cuda")]
            Storage::Cuda(_) => {
                Err(Error::DeviceMismatch { tensor: "tensor", expected: Device::Cpu, got: self.device() })
            }
        }
    }

    /// How many elements lie between the first and the last that are addressed, both included.
    #[cfg(feature = "cuda")]
    pub(crate) fn reach(&self) -> usize {
        1 + self.shape.iter().zip(&self.strides).map(|(len, stride)| (len - 1) * stride).sum::<usize>()
    }

    /// The tensor as a backend takes it.
    pub(crate) fn as_arg(&self) -> TensorArg<'_> {
        match &self.storage {
            Storage::Host(buffer) => {
                let elements = match buffer.elements() {
                    Elements::F32(d) => Elements::F32(&d[self.offset..]),
                    Elements::F16(d) => Elements::F16(&d[self.offset..]),
                    Elements::BF16(d) => Elements::BF16(&d[self.offset..]),
                };
                let host = TensorRef::new("tensor", elements, self.shape, self.strides);
                TensorArg::Host(host.expect("views stay inside their tensor"))
            }
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer) => TensorArg::Cuda(crate::cuda::CudaTensorRef::of(self, buffer)),
        }
    }
}

fn for_each_offset(shape: [usize; 4], strides: [usize; 4], mut f: impl FnMut(usize)) {
    for b in 0..shape[0] {
        for h in 0..shape[1] {
            for s in 0..shape[2] {
                let row = b * strides[0] + h * strides[1] + s * strides[2];
                (0..shape[3]).for_each(|d| f(row + d * strides[3]));
            }
        }
    }
}

/// The strides of row-major elements.
pub(crate) fn contiguous_strides([_, h, s, d]: [usize; 4]) -> [usize; 4] {
    [h * s * d, s * d, d, 1]
}

fn element_count(shape: [usize; 4]) -> Result<usize, TensorError> {
    if shape.contains(&0) {
        return Err(TensorError::Empty { shape });
    }
    let fits = shape.iter().all(|&len| len <= i32::MAX as usize);
    let count = shape.iter().try_fold(1usize, |n, &len| n.checked_mul(len));
    count.filter(|&n| fits && n <= isize::MAX as usize / 4).ok_or(TensorError::TooLarge { shape })
}

fn check_dimension(dimension: usize) -> Result<(), TensorError> {
    if dimension < 4 { Ok(()) } else { Err(TensorError::Dimension { got: dimension }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn counting(shape: [usize; 4]) -> Tensor {
        let count = shape.iter().product::<usize>();
        Tensor::from_vec((0..count).map(|i| i as f32).collect(), shape).unwrap()
    }

    #[test]
    fn views_share_elements_and_keep_logical_order() {
        let t = counting([1, 2, 3, 2]);
        let swapped = t.transpose(1, 2).unwrap();
        assert_eq!(swapped.shape(), [1, 3, 2, 2]);
        assert_eq!(swapped.to_f32_vec().unwrap(), [0., 1., 6., 7., 2., 3., 8., 9., 4., 5., 10., 11.]);
        let part = t.narrow(2, 1, 2).unwrap();
        assert_eq!(part.to_f32_vec().unwrap(), [2., 3., 4., 5., 8., 9., 10., 11.]);
        let repeated = t.narrow(1, 1, 1).unwrap().expand(1, 2).unwrap();
        assert_eq!(repeated.to_f32_vec().unwrap()[..6], repeated.to_f32_vec().unwrap()[6..]);
    }

    #[test]
    fn conversions_round_to_nearest_even() {
        let t = Tensor::from_vec(vec![1.0f32, 1.003_906_3], [1, 1, 1, 2]).unwrap();
        let rounded = t.to_dtype(DType::BF16).unwrap().to_vec::<bf16>().unwrap();
        assert_eq!(rounded, [bf16::from_f32(1.0), bf16::from_f32(1.003_906_3)]);
        assert!(matches!(t.to_vec::<bf16>(), Err(Error::Tensor(TensorError::WrongType { .. }))));
    }

    #[test]
    fn bad_shapes_and_ranges_are_errors() {
        assert!(matches!(
            Tensor::from_vec(vec![0f32; 3], [1, 1, 2, 2]),
            Err(TensorError::ElementCount { .. })
        ));
        assert!(matches!(Tensor::zeros(DType::F16, [1, 0, 2, 2]), Err(TensorError::Empty { .. })));
        assert!(matches!(Tensor::zeros(DType::F16, [1 << 20; 4]), Err(TensorError::TooLarge { .. })));
        let huge = [1, 1 << 15, 1 << 30, 1 << 14];
        assert!(
            matches!(Tensor::zeros(DType::F16, huge), Err(TensorError::OutOfMemory { bytes }) if bytes == 1 << 60)
        );
        let one = || Tensor::from_vec(vec![1f32], [1; 4]).unwrap();
        let repeated = one().expand(2, 1 << 30).and_then(|t| t.expand(1, 1 << 29)).unwrap();
        assert!(matches!(repeated.to_f32_vec(), Err(Error::Tensor(TensorError::OutOfMemory { .. }))));
        for (first, second) in [(usize::MAX, 1), (1 << 31, 1), ((1 << 31) - 1, (1 << 31) - 1)] {
            let repeated = one().expand(2, first).and_then(|t| t.expand(1, second));
            assert!(matches!(repeated, Err(TensorError::TooLarge { .. })), "{first} {second}");
        }
        let t = counting([1, 2, 3, 2]);
        assert!(matches!(t.narrow(2, 2, 2), Err(TensorError::Range { .. })));
        assert!(matches!(t.narrow(2, usize::MAX, 2), Err(TensorError::Range { .. })));
        assert!(matches!(t.expand(1, 4), Err(TensorError::Expand { .. })));
        assert!(matches!(t.transpose(0, 4), Err(TensorError::Dimension { got: 4 })));
    }
}
