//! What can be wrong with a tensor.

use flex_core::attention::DType;

/// Why a tensor or a view of one could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// A dimension is zero.
    #[error("shape {shape:?} has a dimension of 0, expected every dimension to be at least 1")]
    Empty {
        /// The shape.
        shape: [usize; 4],
    },
    /// A dimension is over `i32::MAX` or the number of elements overflows.
    #[error(
        "shape {shape:?} is too large: every dimension is at most {max}, and the elements have an address each",
        max = i32::MAX
    )]
    TooLarge {
        /// The shape.
        shape: [usize; 4],
    },
    /// Host memory ran out.
    #[error("no {bytes} bytes of host memory are left for a tensor: use smaller tensors or free some")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The number of elements is not the shape's.
    #[error("shape {shape:?} has {expected} elements, got {got}")]
    ElementCount {
        /// The shape.
        shape: [usize; 4],
        /// Its number of elements.
        expected: usize,
        /// The number of elements there were.
        got: usize,
    },
    /// A dimension that a tensor does not have.
    #[error("dimension {got} does not exist, expected 0 (batch) to 3 (head_dim)")]
    Dimension {
        /// The dimension.
        got: usize,
    },
    /// A range that leaves its dimension or is empty.
    #[error(
        "range of {len} from {start} does not fit dimension {dimension} of length {available}, expected a part of it of at least 1"
    )]
    Range {
        /// The dimension.
        dimension: usize,
        /// Where the range starts.
        start: usize,
        /// Its length.
        len: usize,
        /// The length of the dimension.
        available: usize,
    },
    /// Only a dimension of length 1 can be repeated.
    #[error(
        "dimension {dimension} of length {got} cannot be expanded to {len}, expected length 1 and at least one repeat"
    )]
    Expand {
        /// The dimension.
        dimension: usize,
        /// Its length.
        got: usize,
        /// The length asked for.
        len: usize,
    },
    /// A tensor to be written shares its elements with another.
    #[error(
        "{tensor} shares its elements with a clone or a view of it, which would change too: drop those first"
    )]
    Shared {
        /// Which tensor.
        tensor: &'static str,
    },
    /// The elements were asked for in a type they do not have.
    #[error("the tensor has dtype {expected}, got a request for {got}: ask for {expected} or use to_f32_vec")]
    WrongType {
        /// The tensor's type.
        expected: DType,
        /// The type asked for.
        got: DType,
    },
}
