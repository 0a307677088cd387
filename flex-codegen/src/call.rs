//! From a call of attention to the specification of its kernel. Launches and bundles ask this one place, so that a bundle
//! holds the kernels that calls look for.

use std::sync::Arc;

use flex_core::analysis::interval::IndexBox;
use flex_core::analysis::kept_interval::KeptIntervals;
use flex_core::analysis::unsigned::unsigned_divisions;
use flex_core::attention::{DType, Shape};
use flex_core::mask::{BlockMask, Origin};
use flex_core::mods::BoundExpr;

use crate::plan::{self, ModLoad, PlanError};
use crate::{Arch, Guards, KernelSpec, Matmul, Precision, keeps_an_interval};

/// What is asked of a kernel: the device, the form of the tensors, and the mods with the captures they are bound to.
#[derive(Clone, Copy, Debug)]
pub struct CallRequest<'a> {
    /// The architecture.
    pub arch: Arch,
    /// The dynamic shared memory that a block may ask for, in bytes (`MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`).
    pub smem_limit: u32,
    /// The dtype of the tensors.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Shape,
    /// Base addresses, strides and rows are multiples of 16 bytes.
    pub vector_access: bool,
    /// The copy engine of Hopper can address query, key and value, and the scale is above 0.
    pub bulk_copies: bool,
    /// The scale [is positive](Guards::is_positive).
    pub positive_scale: bool,
    /// How exactly the mods compute; by the dtype unless given.
    pub precision: Option<Precision>,
    /// How f32 is multiplied.
    pub matmul: Matmul,
    /// What the user insists on.
    pub force: plan::Force,
    /// The tiles, and the mask of the partial ones. A mask without known tiles is asked for by its block mask.
    pub mask: Option<&'a BlockMask>,
    /// The score mod.
    pub score: Option<&'a BoundExpr>,
}

/// The kernel of a call.
#[derive(Clone, Debug)]
pub struct CallPlan {
    /// The kernel.
    pub spec: KernelSpec,
    /// The intervals of keys that the launch brings as a table instead of the mask and its captures.
    pub kept_keys: Option<KeptIntervals>,
    /// Why this template and these tiles.
    pub reason: String,
}

impl CallRequest<'_> {
    /// The kernel to take.
    ///
    /// # Errors
    /// If the device is too old, the head dims are too large, or what is forced does not fit.
    pub fn plan(&self) -> Result<CallPlan, PlanError> {
        let &Self { arch, smem_limit, dtype, shape, matmul, score, .. } = self;
        let kept_keys = self.mask.and_then(kept_keys);
        // A table of kept keys stands for the mask and its captures.
        let mask = self.mask.filter(|_| kept_keys.is_none()).map(|mask| mask.mask_mod().bound());
        let guards = Guards::prove(mask, score, &shape.extent(), self.positive_scale);
        let precision = self.precision.unwrap_or_default();
        let request = plan::Request {
            arch,
            smem_limit,
            dtype,
            matmul,
            shape,
            vector_access: self.vector_access,
            bulk_copies: self.bulk_copies,
            mods: ModLoad::of(mask.map(|m| &**m.expr()), score.map(|s| &**s.expr()), guards, precision),
            force: self.force,
        };
        let plan = plan::plan(&request)?;
        let everywhere = IndexBox::of(&shape.extent());
        let code_of = |bound: &BoundExpr| Arc::new(unsigned_divisions(bound, &everywhere));
        let unforced = request.spec(&plan);
        let mut spec = KernelSpec {
            precision: self.precision.unwrap_or(unforced.precision),
            guards,
            mask: mask.map(code_of),
            kept_keys_from_table: kept_keys.is_some(),
            score: score.map(code_of),
            ..unforced
        };
        let mut reason = plan.reason;
        if let Some(staging) = plan::stage_terms(&mut spec, smem_limit) {
            reason += "; ";
            reason += &staging;
        }
        Ok(CallPlan { spec, kept_keys, reason })
    }
}

/// Beyond this many queries a table of kept keys would take longer to make than it saves.
const MAX_KEPT_ROWS: usize = 1 << 20;

/// The interval of keys that each query keeps, where the mask keeps one in every row and a table is the best way to say
/// so.
fn kept_keys(mask: &BlockMask) -> Option<KeptIntervals> {
    // Only a proved block mask says that the mask does not fault.
    if mask.origin() != Origin::Proved || keeps_an_interval(mask.mask_mod().bound().expr()) {
        return None;
    }
    let stored_heads = mask.table().rows() / mask.q_blocks();
    let rows = stored_heads.saturating_mul(mask.extent().q_len);
    if rows <= MAX_KEPT_ROWS { KeptIntervals::of(mask) } else { None }
}
