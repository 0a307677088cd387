//! Which layouts of tensors kernels read and write.

use flex_codegen::abi;

use super::{CudaError, CudaTensorRef};
use crate::tensor::contiguous_strides;

/// What a kernel does with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Read,
    Written,
}

/// Checks that kernels can address the tensor; returns whether address, strides and rows are all multiples of 16 bytes.
pub(super) fn check(name: &'static str, tensor: &CudaTensorRef<'_>, role: Role) -> Result<bool, CudaError> {
    let (shape, strides, size) = (tensor.shape(), tensor.strides(), tensor.dtype().size());
    let wrong = |expected| CudaError::Layout { tensor: name, shape, strides, expected };
    if shape[3] > 1 && strides[3] != 1 {
        return Err(wrong("a stride of 1 in the head dim: copy it into that form first"));
    }
    // The highest element has an offset that fits the kernel's signed 64-bit addresses.
    let reach = (0..4).try_fold(0usize, |sum, i| sum.checked_add((shape[i] - 1).checked_mul(strides[i])?));
    if reach.and_then(|reach| reach.checked_mul(size)).is_none_or(|bytes| bytes > i64::MAX as usize) {
        return Err(wrong("strides that stay inside the address space"));
    }
    if role == Role::Written && overlaps(shape, strides) {
        return Err(wrong("strides that give every element its own place"));
    }
    if !tensor.ptr().is_multiple_of(size as u64) {
        return Err(CudaError::Misaligned { tensor: name, address: tensor.ptr(), align: size });
    }
    let aligned = |elements: usize| (elements * size).is_multiple_of(16);
    let rows_aligned = (0..3).all(|i| shape[i] == 1 || aligned(strides[i]));
    Ok(tensor.ptr().is_multiple_of(16) && rows_aligned && aligned(shape[3]))
}

/// Checks that a tensor of one number a row is row-major.
pub(super) fn check_contiguous(name: &'static str, tensor: &CudaTensorRef<'_>) -> Result<(), CudaError> {
    let (shape, strides) = (tensor.shape(), tensor.strides());
    let expected = contiguous_strides(shape);
    match (0..4).all(|i| shape[i] == 1 || strides[i] == expected[i]) {
        true => Ok(()),
        false => Err(CudaError::Layout { tensor: name, shape, strides, expected: "a contiguous tensor" }),
    }
}

/// The strides as kernels take them. A dimension of length 1 is never stepped along; kernels that share keys and values
/// over the batch count on its stride being 0.
pub(super) fn strides(tensor: &CudaTensorRef<'_>) -> abi::Strides {
    let [batch, head, row, _] = tensor.strides();
    let step =
        |dimension: usize, stride: usize| if tensor.shape()[dimension] == 1 { 0 } else { stride as i64 };
    abi::Strides { batch: step(0, batch), head: step(1, head), row: step(2, row) }
}

/// Whether two indices may address one element: unless every dimension steps over all that the smaller ones reach.
fn overlaps(shape: [usize; 4], strides: [usize; 4]) -> bool {
    let mut dims: [(usize, usize); 4] = std::array::from_fn(|i| (strides[i], shape[i]));
    dims.sort_unstable();
    let mut reach = 0;
    for (stride, len) in dims.into_iter().filter(|&(_, len)| len > 1) {
        if stride <= reach {
            return true;
        }
        reach += stride * (len - 1);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layouts_that_give_every_element_its_place_are_written() {
        assert!(!overlaps([2, 3, 4, 5], [60, 20, 5, 1]));
        assert!(!overlaps([2, 4, 3, 5], [60, 5, 20, 1]), "heads and rows exchanged");
        assert!(!overlaps([1, 3, 4, 5], [0, 20, 5, 1]), "a single batch may have any stride");
        assert!(overlaps([2, 3, 4, 5], [0, 20, 5, 1]), "a repeated batch");
        assert!(overlaps([1, 1, 4, 5], [0, 0, 4, 1]), "rows that share an element");
    }
}
