//! Tensors `[batch, heads, len, head_dim]`, owned or borrowed, with any strides.

mod arg;
mod element;
mod error;

pub use arg::TensorArg;
pub use element::Element;
pub(crate) use element::HostBuffer;
pub use error::TensorError;

use std::sync::Arc;

use flex_core::attention::{DType, Elements, TensorRef};

/// A tensor `[batch, heads, len, head_dim]` of f32, f16 or bf16.
///
/// Cheap to clone: clones and views ([`transpose`](Self::transpose), [`narrow`](Self::narrow),
/// [`expand`](Self::expand)) share the elements.
#[derive(Clone, Debug)]
pub struct Tensor {
    storage: Storage,
    dtype: DType,
    shape: [usize; 4],
    strides: [usize; 4],
    offset: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Host(Arc<HostBuffer>),
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
    /// If a dimension is 0 or the number of elements overflows.
    pub fn from_fn<T: Element>(
        shape: [usize; 4],
        mut element: impl FnMut([usize; 4]) -> T,
    ) -> Result<Self, TensorError> {
        let mut elements = Vec::with_capacity(element_count(shape)?);
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
    /// If a dimension is 0 or the number of elements overflows.
    pub fn zeros(dtype: DType, shape: [usize; 4]) -> Result<Self, TensorError> {
        Ok(Self::from_buffer(HostBuffer::zeros(dtype, element_count(shape)?), shape))
    }

    pub(crate) fn from_buffer(buffer: HostBuffer, shape: [usize; 4]) -> Self {
        let [_, h, s, d] = shape;
        let dtype = buffer.dtype();
        Self {
            storage: Storage::Host(Arc::new(buffer)),
            dtype,
            shape,
            strides: [h * s * d, s * d, d, 1],
            offset: 0,
        }
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
    /// If the dimension is over 3 or its length is not 1, or `len` is 0.
    pub fn expand(&self, dimension: usize, len: usize) -> Result<Self, TensorError> {
        check_dimension(dimension)?;
        if self.shape[dimension] != 1 || len == 0 {
            return Err(TensorError::Expand { dimension, got: self.shape[dimension], len });
        }
        let mut view = self.clone();
        view.shape[dimension] = len;
        view.strides[dimension] = 0;
        Ok(view)
    }

    /// The same values in another type, contiguous; f32 to f16 or bf16 rounds to nearest even.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let mut elements = Vec::with_capacity(self.shape.iter().product());
        self.for_each(|x| elements.push(x));
        Self::from_buffer(HostBuffer::from_f32(dtype, elements), self.shape)
    }

    /// The elements in row-major order, widened to f32 (exact).
    pub fn to_f32_vec(&self) -> Vec<f32> {
        let mut elements = Vec::with_capacity(self.shape.iter().product());
        self.for_each(|x| elements.push(x));
        elements
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// If the tensor has another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        let host = self.host();
        let Some(all) = T::from_elements(host.elements()) else {
            return Err(TensorError::WrongType { expected: self.dtype, got: T::DTYPE });
        };
        let mut out = Vec::with_capacity(self.shape.iter().product());
        for_each_offset(self.shape, self.strides, |offset| out.push(all[offset]));
        Ok(out)
    }

    /// The tensor as backends take it.
    pub(crate) fn host(&self) -> TensorRef<'_> {
        let Storage::Host(buffer) = &self.storage;
        let elements = match buffer.elements() {
            Elements::F32(d) => Elements::F32(&d[self.offset..]),
            Elements::F16(d) => Elements::F16(&d[self.offset..]),
            Elements::BF16(d) => Elements::BF16(&d[self.offset..]),
        };
        TensorRef::new("tensor", elements, self.shape, self.strides).expect("views stay inside their tensor")
    }

    fn for_each(&self, mut f: impl FnMut(f32)) {
        let elements = self.host().elements();
        for_each_offset(self.shape, self.strides, |offset| f(elements.get(offset)));
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
        assert_eq!(swapped.to_f32_vec(), [0., 1., 6., 7., 2., 3., 8., 9., 4., 5., 10., 11.]);
        let part = t.narrow(2, 1, 2).unwrap();
        assert_eq!(part.to_f32_vec(), [2., 3., 4., 5., 8., 9., 10., 11.]);
        let repeated = t.narrow(1, 1, 1).unwrap().expand(1, 2).unwrap();
        assert_eq!(repeated.to_f32_vec()[..6], repeated.to_f32_vec()[6..]);
    }

    #[test]
    fn conversions_round_to_nearest_even() {
        let t = Tensor::from_vec(vec![1.0f32, 1.003_906_3], [1, 1, 1, 2]).unwrap();
        let rounded = t.to_dtype(DType::BF16).to_vec::<bf16>().unwrap();
        assert_eq!(rounded, [bf16::from_f32(1.0), bf16::from_f32(1.003_906_3)]);
        assert!(matches!(t.to_vec::<bf16>(), Err(TensorError::WrongType { .. })));
    }

    #[test]
    fn bad_shapes_and_ranges_are_errors() {
        assert!(matches!(
            Tensor::from_vec(vec![0f32; 3], [1, 1, 2, 2]),
            Err(TensorError::ElementCount { .. })
        ));
        assert!(matches!(Tensor::zeros(DType::F16, [1, 0, 2, 2]), Err(TensorError::Empty { .. })));
        assert!(matches!(Tensor::zeros(DType::F16, [1 << 20; 4]), Err(TensorError::TooLarge { .. })));
        let t = counting([1, 2, 3, 2]);
        assert!(matches!(t.narrow(2, 2, 2), Err(TensorError::Range { .. })));
        assert!(matches!(t.narrow(2, usize::MAX, 2), Err(TensorError::Range { .. })));
        assert!(matches!(t.expand(1, 4), Err(TensorError::Expand { .. })));
        assert!(matches!(t.transpose(0, 4), Err(TensorError::Dimension { got: 4 })));
    }
}
