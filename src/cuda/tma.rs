//! Descriptions of tensors for the bulk copy engine of Hopper and later.

use flex_core::attention::DType;

use super::driver::Driver;
use super::{CudaError, CudaTensorRef};

/// Columns of a box: 128 bytes of 16-bit elements, one row of the swizzle.
const BOX_COLUMNS: u32 = 64;

/// `CUtensorMap`, as kernels take it by value.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub(super) struct TensorMap([u64; 16]);

/// What a tensor map is encoded from: dimensions innermost first, as the engine counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    dims: [u64; 4],
    /// Of all dimensions but the innermost.
    byte_strides: [u64; 3],
    box_dims: [u32; 4],
}

impl TensorMap {
    /// The map of a 16-bit tensor that is read in boxes of `rows` positions by 64 components, swizzled by 128 bytes; what
    /// lies outside the tensor reads as zero. Repeated dimensions have length 1 in the map.
    pub(super) fn encode(driver: &Driver, tensor: &CudaTensorRef<'_>, rows: u32) -> Result<Self, CudaError> {
        let geometry = Geometry::of(tensor.shape(), tensor.strides(), tensor.dtype().size(), rows);
        let dtype = match tensor.dtype() {
            DType::F16 => 6,
            DType::F32 => 7,
            DType::BF16 => 9,
        };
        const NO_INTERLEAVE: u32 = 0;
        const SWIZZLE_128B: u32 = 3;
        const PROMOTE_TO_256B: u32 = 3;
        const FILL_WITH_ZERO: u32 = 0;
        let mut map = Self([0; 16]);
        // SAFETY: every array has the length that rank 4 implies, and `map` is a valid place to write; the driver only
        // encodes the address.
        unsafe {
            driver.encode_tensor_map(
                (&raw mut map).cast(),
                dtype,
                4,
                tensor.ptr() as *mut std::ffi::c_void,
                geometry.dims.as_ptr(),
                geometry.byte_strides.as_ptr(),
                geometry.box_dims.as_ptr(),
                [1u32; 4].as_ptr(),
                NO_INTERLEAVE,
                SWIZZLE_128B,
                PROMOTE_TO_256B,
                FILL_WITH_ZERO,
            )?;
        }
        Ok(map)
    }

    /// Whether the engine can address such a tensor: 16-byte steps, none over 2⁴⁰ bytes, and rows that are not repeated.
    pub(super) fn can_describe(tensor: &CudaTensorRef<'_>) -> bool {
        let (shape, strides, size) = (tensor.shape(), tensor.strides(), tensor.dtype().size());
        let steps = (0..3).filter(|&i| shape[i] > 1 && strides[i] > 0).map(|i| strides[i] * size);
        let mut steps = steps.chain([shape[3] * size]);
        steps.all(|bytes| bytes.is_multiple_of(16) && bytes < 1 << 40)
            && (shape[2] == 1 || strides[2] > 0)
            && tensor.ptr().is_multiple_of(16)
    }
}

impl Geometry {
    fn of(shape: [usize; 4], strides: [usize; 4], size: usize, rows: u32) -> Self {
        let [batch, heads, len, components] = shape.map(|len| len as u64);
        let repeated = |i: usize, len: u64| if strides[i] == 0 { 1 } else { len };
        // A dimension that is never stepped along still needs a stride that the engine accepts.
        let step = |i: usize| if shape[i] == 1 || strides[i] == 0 { 16 } else { (strides[i] * size) as u64 };
        Self {
            dims: [components, len, repeated(1, heads), repeated(0, batch)],
            byte_strides: [step(2), step(1), step(0)],
            box_dims: [BOX_COLUMNS, rows, 1, 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_turned_around() {
        let geometry = Geometry::of([2, 8, 100, 128], [102_400, 12_800, 128, 1], 2, 64);
        assert_eq!(geometry.dims, [128, 100, 8, 2]);
        assert_eq!(geometry.byte_strides, [256, 25_600, 204_800]);
        assert_eq!(geometry.box_dims, [64, 64, 1, 1]);
    }

    #[test]
    fn repeated_and_single_dimensions_have_length_one() {
        let geometry = Geometry::of([3, 1, 100, 64], [0, 6400, 64, 1], 2, 128);
        assert_eq!(geometry.dims, [64, 100, 1, 1]);
        assert_eq!(geometry.byte_strides, [128, 16, 16]);
    }
}
