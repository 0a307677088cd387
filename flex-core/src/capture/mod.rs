//! What mods capture: scalars and arrays, checked and owned from the moment they are bound.

mod array;
mod bind;
mod range_index;
mod view;

pub use array::{Array, ArrayData};
pub use bind::{CaptureElement, IntoArray, IntoScalar};
pub use range_index::{ArrayBounds, ElementRange};
pub use view::{View, ViewError, ViewIndex};

use crate::ir::{CaptureDecl, Scalar};
use std::sync::Arc;

/// The value behind a captured name.
#[derive(Clone, Debug)]
pub enum CaptureValue {
    /// A scalar.
    Scalar(Scalar),
    /// An array, shared between all mods that were bound to it.
    Array(Arc<Array>),
}

/// A capture of a bound mod: its name in the user's code and its value.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The name in the user's code.
    pub name: String,
    /// The value.
    pub value: CaptureValue,
}

impl Capture {
    /// What the expression is told of the capture.
    pub fn decl(&self) -> CaptureDecl {
        let (ty, rank) = match &self.value {
            CaptureValue::Scalar(value) => (value.ty(), 0),
            CaptureValue::Array(array) => (array.ty(), array.shape().len() as u8),
        };
        CaptureDecl { name: self.name.clone(), ty, rank }
    }

    /// The array, if the capture is one.
    pub fn array(&self) -> Option<&Arc<Array>> {
        match &self.value {
            CaptureValue::Array(array) => Some(array),
            CaptureValue::Scalar(_) => None,
        }
    }

    /// Whether both hold the same value: equal scalars of one bit pattern, or one and the same array.
    pub fn same_value(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (CaptureValue::Scalar(a), CaptureValue::Scalar(b)) => a == b,
            (CaptureValue::Array(a), CaptureValue::Array(b)) => a.id() == b.id(),
            _ => false,
        }
    }
}
