//! What closures capture by name.
//!
//! The macros call the methods of these traits by path, so that the compiler's message about a missing implementation
//! names the captured type and nothing of ours.

use std::sync::Arc;

use flex_core::capture::{Capture, CaptureElement, CaptureValue, IntoArray, View};

/// A scalar that a closure captures, by value or reference.
#[diagnostic::on_unimplemented(
    message = "a mod cannot capture `{Self}` as a scalar",
    label = "captured here",
    note = "captured scalars are f32, i32, u32 or bool: convert the value before, such as `let n = n as i32;`",
    note = "arrays are captured by indexing them, such as `slopes[h]`"
)]
pub trait CapturedScalar {
    /// f32, i32, u32 or bool.
    type Value: CaptureElement;

    /// The value.
    #[doc(hidden)]
    fn value(&self) -> Self::Value;

    /// The native value and the capture.
    #[doc(hidden)]
    fn captured_as(&self, name: &str) -> (Self::Value, Capture) {
        let value = self.value();
        (value, Capture { name: name.into(), value: CaptureValue::Scalar(value.into()) })
    }
}

macro_rules! scalars {
    ($($native:ty)*) => {$(
        impl CapturedScalar for $native {
            type Value = Self;
            fn value(&self) -> Self {
                *self
            }
        }
    )*};
}
scalars!(f32 i32 u32 bool);

impl<C: CapturedScalar + ?Sized> CapturedScalar for &C {
    type Value = C::Value;
    fn value(&self) -> C::Value {
        (**self).value()
    }
}

/// An array that a closure captures and indexes with `N` indices.
#[diagnostic::on_unimplemented(
    message = "a mod cannot capture `{Self}` as an array with {N} indices",
    label = "captured here",
    note = "one index takes &[T], Vec<T> and [T; N]; any number of indices takes a `View::new(&data, shape)?`",
    note = "the elements are f32, i32, u32 or bool"
)]
pub trait CapturedView<const N: usize> {
    /// f32, i32, u32 or bool.
    type Element: CaptureElement;

    /// The array as a mod sees it.
    #[doc(hidden)]
    fn view(&self) -> View<'_, Self::Element, N>;

    /// The native view and the capture.
    #[doc(hidden)]
    fn captured_as(&self, name: &str) -> (View<'_, Self::Element, N>, Capture) {
        let view = self.view();
        (view, Capture { name: name.into(), value: CaptureValue::Array(view.into_array()) })
    }
}

/// Positions past `i32::MAX` cannot be named by an i32 index, so the view ends there.
fn of_slice<T>(slice: &[T]) -> View<'_, T, 1> {
    let len = slice.len().min(i32::MAX as usize);
    View::new(&slice[..len], [len]).expect("the slice has this length, and it fits an i32")
}

impl<T: CaptureElement> CapturedView<1> for [T] {
    type Element = T;
    fn view(&self) -> View<'_, T, 1> {
        of_slice(self)
    }
}

impl<T: CaptureElement, const L: usize> CapturedView<1> for [T; L] {
    type Element = T;
    fn view(&self) -> View<'_, T, 1> {
        of_slice(self)
    }
}

impl<T: CaptureElement, const L: usize, const M: usize> CapturedView<2> for [[T; L]; M] {
    type Element = T;
    fn view(&self) -> View<'_, T, 2> {
        View::new(self.as_flattened(), [M, L]).expect("the elements of a nested array")
    }
}

impl<T: CaptureElement, const N: usize> CapturedView<N> for View<'_, T, N> {
    type Element = T;
    fn view(&self) -> View<'_, T, N> {
        *self
    }
}

macro_rules! owned_slices {
    ($($owner:ty),*) => {$(
        impl<T: CaptureElement> CapturedView<1> for $owner {
            type Element = T;
            fn view(&self) -> View<'_, T, 1> {
                of_slice(self)
            }
        }
    )*};
}
owned_slices!(Vec<T>, Box<[T]>, Arc<[T]>);

impl<C: CapturedView<N> + ?Sized, const N: usize> CapturedView<N> for &C {
    type Element = C::Element;
    fn view(&self) -> View<'_, C::Element, N> {
        (**self).view()
    }
}

/// What a closure captures only to pass it on: the value itself tells whether it is a scalar or an array.
#[diagnostic::on_unimplemented(
    message = "a mod cannot capture `{Self}`",
    label = "captured here",
    note = "captures are f32, i32, u32 or bool, and arrays of these: &[T], Vec<T>, [T; N] or `View::new(&data, shape)?`"
)]
pub trait CapturedArgument {
    /// What the called function takes.
    type Native<'a>
    where
        Self: 'a;

    /// The argument of a native call.
    #[doc(hidden)]
    fn native(&self) -> Self::Native<'_>;

    /// The captured value.
    #[doc(hidden)]
    fn capture(&self) -> CaptureValue;

    /// The native argument and the capture.
    #[doc(hidden)]
    fn captured_as(&self, name: &str) -> (Self::Native<'_>, Capture) {
        (self.native(), Capture { name: name.into(), value: self.capture() })
    }
}

macro_rules! scalar_arguments {
    ($($native:ty)*) => {$(
        impl CapturedArgument for $native {
            type Native<'a> = Self;
            fn native(&self) -> Self {
                *self
            }
            fn capture(&self) -> CaptureValue {
                CaptureValue::Scalar((*self).into())
            }
        }
    )*};
}
scalar_arguments!(f32 i32 u32 bool);

macro_rules! array_arguments {
    ($([$($generics:tt)*] $array:ty => $rank:expr;)*) => {$(
        impl<T: CaptureElement, $($generics)*> CapturedArgument for $array {
            type Native<'a> = View<'a, T, { $rank }> where Self: 'a;
            fn native(&self) -> View<'_, T, { $rank }> {
                self.view()
            }
            fn capture(&self) -> CaptureValue {
                CaptureValue::Array(self.view().into_array())
            }
        }
    )*};
}
array_arguments! {
    [] [T] => 1;
    [const L: usize] [T; L] => 1;
    [] Vec<T> => 1;
    [] Box<[T]> => 1;
    [] Arc<[T]> => 1;
}

impl<'v, T: CaptureElement, const N: usize> CapturedArgument for View<'v, T, N> {
    type Native<'a>
        = Self
    where
        Self: 'a;
    fn native(&self) -> Self {
        *self
    }
    fn capture(&self) -> CaptureValue {
        CaptureValue::Array(self.into_array())
    }
}

impl<C: CapturedArgument + ?Sized> CapturedArgument for &C {
    type Native<'a>
        = C::Native<'a>
    where
        Self: 'a;
    fn native(&self) -> C::Native<'_> {
        (**self).native()
    }
    fn capture(&self) -> CaptureValue {
        (**self).capture()
    }
}
