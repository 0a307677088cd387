//! The kernels of calls that are not made: for bundles that are compiled on a machine without a GPU.

use flex_codegen::{Arch, Guards, KernelSpec};
use flex_core::attention::{DType, Shape};
use flex_core::mods::ScoreMod;

use super::CudaOptions;
use super::calls::{CallSpec, MaskSource};
use crate::Error;

/// A call, told by the form of its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AheadCall<'a> {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) scale: Option<f32>,
    pub(crate) score_mod: Option<&'a ScoreMod>,
    pub(crate) mask: MaskSource<'a>,
    pub(crate) options: CudaOptions<'a>,
}

impl AheadCall<'_> {
    /// The kernel for contiguous tensors on a device of this architecture.
    pub(crate) fn kernel(&self, arch: Arch) -> Result<KernelSpec, Error> {
        let Self { shape, dtype, options, .. } = *self;
        let scale = self.scale.unwrap_or_else(|| shape.default_scale());
        let aligned = |components: usize| (components * dtype.size()).is_multiple_of(16);
        let vector_access = aligned(shape.head_dim) && aligned(shape.value_dim);
        let spec = CallSpec {
            shape,
            dtype,
            vector_access,
            bulk_copies: vector_access && scale > 0.0,
            positive_scale: Guards::is_positive(scale),
            precision: options.precision,
            matmul: options.matmul,
            force: options.force,
            mask: self.mask,
            score: self.score_mod,
        };
        spec.kernel(arch)
    }
}
