//! What `flex_attention` takes: our own tensors or borrowed memory.

use flex_core::attention::TensorRef;

use super::Tensor;

/// A tensor argument: a [`Tensor`] or borrowed memory with a shape and strides.
#[derive(Clone, Copy, Debug)]
pub enum TensorArg<'a> {
    /// Host memory.
    Host(TensorRef<'a>),
}

impl<'a> From<&'a Tensor> for TensorArg<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Host(tensor.host())
    }
}

impl<'a> From<TensorRef<'a>> for TensorArg<'a> {
    fn from(tensor: TensorRef<'a>) -> Self {
        Self::Host(tensor)
    }
}
