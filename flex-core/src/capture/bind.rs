//! From the user's values to captures.

use std::sync::Arc;

use super::{Array, ArrayData, View};
use crate::ir::{Scalar, Type};

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl Sealed for i32 {}
    impl Sealed for u32 {}
    impl Sealed for f32 {}
}

/// The element types of captured arrays and the types of captured scalars: `f32`, `i32`, `u32`, `bool`.
#[diagnostic::on_unimplemented(
    message = "a mod cannot capture `{Self}`",
    label = "unsupported type in a capture",
    note = "captures are f32, i32, u32 or bool, and arrays of these: convert the value first"
)]
pub trait CaptureElement: sealed::Sealed + Copy + Into<Scalar> + Send + Sync + 'static {
    /// The type in the language of mods.
    const TYPE: Type;
    /// Boxes elements for an [`Array`].
    fn into_data(elements: Vec<Self>) -> ArrayData;
}

macro_rules! capture_element {
    ($($native:ty => $variant:ident),*) => {$(
        impl CaptureElement for $native {
            const TYPE: Type = Type::$variant;
            fn into_data(elements: Vec<Self>) -> ArrayData {
                ArrayData::$variant(elements.into_boxed_slice())
            }
        }
    )*};
}
capture_element!(bool => Bool, i32 => I32, u32 => U32, f32 => F32);

/// What can be bound to a captured scalar of type `T`: the value or a reference to it.
#[diagnostic::on_unimplemented(
    message = "expected a scalar of type `{T}` to bind, got `{Self}`",
    label = "not a `{T}`",
    note = "pass the value, converted with `as {T}` where its type is another"
)]
pub trait IntoScalar<T> {
    /// The value.
    fn into_scalar(self) -> T;
}

impl<T: CaptureElement> IntoScalar<T> for T {
    fn into_scalar(self) -> T {
        self
    }
}

impl<T: CaptureElement> IntoScalar<T> for &T {
    fn into_scalar(self) -> T {
        *self
    }
}

/// What can be bound to a captured `View<T, N>`: slices, vectors and arrays for rank 1, nested arrays for rank 2, a
/// [`View`] for any rank.
///
/// The elements are copied once, so later changes of the original do not reach the mod.
#[diagnostic::on_unimplemented(
    message = "expected an array of rank {N} with `{T}` elements to bind, got `{Self}`",
    label = "not a rank-{N} array of `{T}`",
    note = "rank 1 takes &[{T}] or &Vec<{T}>; any rank takes View::new(&data, shape)?"
)]
pub trait IntoArray<T, const N: usize> {
    /// The captured array.
    fn into_array(self) -> Arc<Array>;
}

impl<T: CaptureElement> IntoArray<T, 1> for &[T] {
    fn into_array(self) -> Arc<Array> {
        Arc::new(Array::new(vec![self.len()], T::into_data(self.to_vec())))
    }
}

impl<T: CaptureElement> IntoArray<T, 1> for &Vec<T> {
    fn into_array(self) -> Arc<Array> {
        self.as_slice().into_array()
    }
}

impl<T: CaptureElement> IntoArray<T, 1> for Vec<T> {
    fn into_array(self) -> Arc<Array> {
        Arc::new(Array::new(vec![self.len()], T::into_data(self)))
    }
}

impl<T: CaptureElement, const L: usize> IntoArray<T, 1> for &[T; L] {
    fn into_array(self) -> Arc<Array> {
        self.as_slice().into_array()
    }
}

impl<T: CaptureElement, const L: usize, const M: usize> IntoArray<T, 2> for &[[T; L]; M] {
    fn into_array(self) -> Arc<Array> {
        Arc::new(Array::new(vec![M, L], T::into_data(self.as_flattened().to_vec())))
    }
}

impl<T: CaptureElement, const N: usize> IntoArray<T, N> for View<'_, T, N> {
    fn into_array(self) -> Arc<Array> {
        Arc::new(Array::new(self.shape().to_vec(), T::into_data(self.to_contiguous())))
    }
}

impl<T: CaptureElement, const N: usize> IntoArray<T, N> for &View<'_, T, N> {
    fn into_array(self) -> Arc<Array> {
        (*self).into_array()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_keep_shape_and_elements() {
        let array = (&[[1i32, 2], [3, 4], [5, 6]]).into_array();
        assert_eq!(array.shape(), [3, 2]);
        assert_eq!(array.get(4), Some(Scalar::I32(5)));
        assert_eq!(array.get(6), None);
    }

    #[test]
    fn every_bound_array_has_its_own_id() {
        let data = vec![1.0f32];
        assert_ne!((&data).into_array().id(), (&data).into_array().id());
    }
}
