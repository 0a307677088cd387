//! Borrowed arrays as mods see them.

use std::ops::Index;

use super::CaptureElement;

/// A borrowed array of rank `N` (1 to 4) that a mod indexes with `i32` or `u32`: `doc[q]`, `bias[[h, q - kv]]` or
/// `bias[(h, q - kv)]`.
///
/// This is what a mod gets when it is called as plain Rust; an index outside the view panics there as for a slice. In
/// `flex_attention` and `create_block_mask` it is an error that names the capture and the index.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T, const N: usize> {
    data: &'a [T],
    shape: [usize; N],
    strides: [usize; N],
}

/// Why a slice cannot be seen as a view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The strides reach outside the data.
    #[error(
        "a view of shape {shape:?} and strides {strides:?} reaches element {needed}, but the data has {got} elements: pass the whole \
         buffer or a smaller shape"
    )]
    OutOfData {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The strides asked for, in elements.
        strides: Vec<usize>,
        /// The highest element offset the view would touch, plus one.
        needed: usize,
        /// How many elements there are.
        got: usize,
    },
    /// An axis is longer than an i32 index can reach, or all elements take more bytes than there are addresses.
    #[error(
        "a view of shape {shape:?} is too large: every axis must be at most {max}, and all elements fit in memory",
        max = i32::MAX
    )]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
}

impl<'a, T, const N: usize> View<'a, T, N> {
    /// A view of a contiguous row-major array.
    ///
    /// # Errors
    /// If the data has fewer elements than the shape, or an axis is longer than `i32::MAX`.
    pub fn new(data: &'a [T], shape: [usize; N]) -> Result<Self, ViewError> {
        let mut strides = [1usize; N];
        for axis in (0..N.saturating_sub(1)).rev() {
            strides[axis] =
                strides[axis + 1].checked_mul(shape[axis + 1]).ok_or_else(|| too_large(&shape))?;
        }
        Self::with_strides(data, shape, strides)
    }

    /// A view with any strides, in elements; a stride of 0 repeats.
    ///
    /// # Errors
    /// If some index inside the shape would lie outside the data, an axis is longer than `i32::MAX`, or no memory could
    /// hold a copy of the elements, repeated ones included.
    pub fn with_strides(data: &'a [T], shape: [usize; N], strides: [usize; N]) -> Result<Self, ViewError> {
        if shape.iter().any(|&len| len > i32::MAX as usize) {
            return Err(too_large(&shape));
        }
        if !shape.contains(&0) {
            let bytes = shape.iter().try_fold(size_of::<T>(), |bytes, &len| bytes.checked_mul(len));
            if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
                return Err(too_large(&shape));
            }
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(0usize, |sum, (&len, &stride)| sum.checked_add((len - 1).checked_mul(stride)?))
                .ok_or_else(|| too_large(&shape))?;
            if last >= data.len() {
                return Err(ViewError::OutOfData {
                    shape: shape.to_vec(),
                    strides: strides.to_vec(),
                    needed: last.saturating_add(1),
                    got: data.len(),
                });
            }
        }
        Ok(Self { data, shape, strides })
    }

    /// The length of every axis.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The length of one axis, as a mod sees it. Panics if there is no such axis.
    pub fn dim(&self, axis: usize) -> i32 {
        self.shape[axis] as i32
    }

    fn at(&self, indices: [i64; N]) -> &'a T {
        let mut offset = 0;
        for (axis, (index, len)) in indices.into_iter().zip(self.shape).enumerate() {
            assert!(
                index >= 0 && (index as u64) < len as u64,
                "index {index} is outside axis {axis} of a view, which has length {len}"
            );
            offset += index as usize * self.strides[axis];
        }
        &self.data[offset]
    }
}

impl<T> View<'_, T, 1> {
    /// The number of elements, as a mod sees it.
    #[expect(clippy::len_without_is_empty, reason = "mods ask for lengths as i32 to compute with them")]
    pub fn len(&self) -> i32 {
        self.shape[0] as i32
    }
}

impl<'a, T: CaptureElement, const N: usize> View<'a, T, N> {
    /// The elements in row-major order.
    pub(crate) fn to_contiguous(self) -> Vec<T> {
        let count = if self.shape.contains(&0) { 0 } else { self.shape.iter().product() };
        let mut out = Vec::with_capacity(count);
        let mut index = [0usize; N];
        for _ in 0..count {
            out.push(self.data[index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<usize>()]);
            for axis in (0..N).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        out
    }
}

fn too_large(shape: &[usize]) -> ViewError {
    ViewError::TooLarge { shape: shape.to_vec() }
}

/// Integers that index a view.
pub trait ViewIndex: Copy {
    /// The index, exactly.
    fn widen(self) -> i64;
}

impl ViewIndex for i32 {
    fn widen(self) -> i64 {
        self.into()
    }
}

impl ViewIndex for u32 {
    fn widen(self) -> i64 {
        self.into()
    }
}

impl<T, I: ViewIndex> Index<I> for View<'_, T, 1> {
    type Output = T;
    fn index(&self, index: I) -> &T {
        self.at([index.widen()])
    }
}

macro_rules! index_by_array_and_tuple {
    ($rank:literal: $($index:ident $ty:ident),+) => {
        impl<T, I: ViewIndex> Index<[I; $rank]> for View<'_, T, $rank> {
            type Output = T;
            fn index(&self, indices: [I; $rank]) -> &T {
                self.at(indices.map(ViewIndex::widen))
            }
        }
        impl<T, $($ty: ViewIndex),+> Index<($($ty,)+)> for View<'_, T, $rank> {
            type Output = T;
            fn index(&self, ($($index,)+): ($($ty,)+)) -> &T {
                self.at([$($index.widen()),+])
            }
        }
    };
}
index_by_array_and_tuple!(2: i I, j J);
index_by_array_and_tuple!(3: i I, j J, k K);
index_by_array_and_tuple!(4: i I, j J, k K, l L);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_address_row_major_data() {
        let data: Vec<i32> = (0..24).collect();
        let view = View::new(&data, [2, 3, 4]).unwrap();
        assert_eq!(view[[1, 2, 3]], 23);
        assert_eq!(view[(0i32, 1u32, 2i32)], 6);
    }

    #[test]
    fn strided_views_flatten_in_logical_order() {
        let data: Vec<i32> = (0..6).collect();
        let transposed = View::with_strides(&data, [3, 2], [1, 3]).unwrap();
        assert_eq!(transposed.to_contiguous(), [0, 3, 1, 4, 2, 5]);
        let repeated = View::with_strides(&data, [2, 2], [0, 1]).unwrap();
        assert_eq!(repeated.to_contiguous(), [0, 1, 0, 1]);
    }

    #[test]
    fn a_view_never_reaches_outside_its_data() {
        let data = [0i32; 6];
        assert!(matches!(
            View::with_strides(&data, [2, 4], [3, 1]),
            Err(ViewError::OutOfData { needed: 7, .. })
        ));
        assert!(View::with_strides(&data, [2, 2], [usize::MAX, 1]).is_err());
        assert!(View::<_, 1>::new(&data, [0]).is_ok());
    }

    #[test]
    fn a_repeated_view_has_no_more_elements_than_a_copy_could_have() {
        const LONGEST: usize = i32::MAX as usize;
        for strides in [[0; 3], [1, 0, 0]] {
            let view = View::with_strides(&[0i32; 6], [6, LONGEST, LONGEST], strides);
            assert!(matches!(view, Err(ViewError::TooLarge { .. })), "{view:?}");
        }
        let empty = View::with_strides(&[0i32; 6], [LONGEST, LONGEST, 0], [0; 3]).unwrap();
        assert!(empty.to_contiguous().is_empty());
    }
}
