//! The element types of tensors and their buffers.

use flex_core::attention::{DType, Elements, ElementsMut};
use half::{bf16, f16};

use super::TensorError;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// The element types of tensors: `f32`, `half::f16`, `half::bf16`.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The type as a value.
    const DTYPE: DType;
    #[doc(hidden)]
    fn into_buffer(elements: Vec<Self>) -> HostBuffer;
    #[doc(hidden)]
    fn from_elements(elements: Elements<'_>) -> Option<&[Self]>;
}

/// Owned elements of a tensor in host memory.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum HostBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

macro_rules! element {
    ($native:ty, $variant:ident) => {
        impl Element for $native {
            const DTYPE: DType = DType::$variant;
            fn into_buffer(elements: Vec<Self>) -> HostBuffer {
                HostBuffer::$variant(elements)
            }
            fn from_elements(elements: Elements<'_>) -> Option<&[Self]> {
                if let Elements::$variant(d) = elements { Some(d) } else { None }
            }
        }
    };
}
element!(f32, F32);
element!(f16, F16);
element!(bf16, BF16);

/// An empty vector with room for `count` elements.
///
/// # Errors
/// [`TensorError::OutOfMemory`].
pub(super) fn reserved<T>(count: usize) -> Result<Vec<T>, TensorError> {
    let mut elements = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    elements.try_reserve_exact(count).map_err(|_| TensorError::OutOfMemory { bytes })?;
    Ok(elements)
}

/// So many zeros. Zeroed pages come from the system as they are touched, which only `vec!` asks for; but it aborts where
/// there are none, so that is tried out before.
///
/// # Errors
/// [`TensorError::OutOfMemory`].
pub(crate) fn zeroed<T: Copy>(zero: T, count: usize) -> Result<Vec<T>, TensorError> {
    drop(reserved::<T>(count)?);
    Ok(vec![zero; count])
}

impl HostBuffer {
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub(crate) fn zeros(dtype: DType, count: usize) -> Result<Self, TensorError> {
        Ok(match dtype {
            DType::F32 => Self::F32(zeroed(0.0, count)?),
            DType::F16 => Self::F16(zeroed(f16::ZERO, count)?),
            DType::BF16 => Self::BF16(zeroed(bf16::ZERO, count)?),
        })
    }

    pub(crate) fn from_f32(dtype: DType, elements: Vec<f32>) -> Self {
        match dtype {
            DType::F32 => Self::F32(elements),
            DType::F16 => Self::F16(elements.into_iter().map(f16::from_f32).collect()),
            DType::BF16 => Self::BF16(elements.into_iter().map(bf16::from_f32).collect()),
        }
    }

    pub(crate) fn elements(&self) -> Elements<'_> {
        match self {
            Self::F32(d) => Elements::F32(d),
            Self::F16(d) => Elements::F16(d),
            Self::BF16(d) => Elements::BF16(d),
        }
    }

    pub(crate) fn elements_mut(&mut self) -> ElementsMut<'_> {
        match self {
            Self::F32(d) => ElementsMut::F32(d),
            Self::F16(d) => ElementsMut::F16(d),
            Self::BF16(d) => ElementsMut::BF16(d),
        }
    }

    /// The elements as they lie in memory.
    #[cfg(feature = "cuda")]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(d) => bytemuck::cast_slice(d),
            Self::F16(d) => bytemuck::cast_slice(d),
            Self::BF16(d) => bytemuck::cast_slice(d),
        }
    }

    /// The elements as they lie in memory, to be overwritten.
    #[cfg(feature = "cuda")]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F32(d) => bytemuck::cast_slice_mut(d),
            Self::F16(d) => bytemuck::cast_slice_mut(d),
            Self::BF16(d) => bytemuck::cast_slice_mut(d),
        }
    }

    /// The elements at the given strides from `first`, in row-major order.
    #[cfg(feature = "cuda")]
    pub(crate) fn gather(&self, first: usize, shape: [usize; 4], strides: [usize; 4]) -> Self {
        fn pick<T: Copy>(all: &[T], shape: [usize; 4], strides: [usize; 4]) -> Vec<T> {
            let mut out = Vec::with_capacity(shape.iter().product());
            super::for_each_offset(shape, strides, |offset| out.push(all[offset]));
            out
        }
        match self {
            Self::F32(d) => Self::F32(pick(&d[first..], shape, strides)),
            Self::F16(d) => Self::F16(pick(&d[first..], shape, strides)),
            Self::BF16(d) => Self::BF16(pick(&d[first..], shape, strides)),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.elements().dtype()
    }
}
