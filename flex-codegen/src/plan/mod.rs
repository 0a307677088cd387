//! Which kernel, with which tiles: a table with reasons.

pub(crate) mod hopper;
pub(crate) mod portable;

pub use hopper::{HOPPER, HopperLine};
pub use portable::{Line, PORTABLE};

use flex_core::analysis::faults::Faults;
use flex_core::attention::{DType, Shape};
use flex_core::ir::Expr;
use serde::{Deserialize, Serialize};

use crate::emit::{keeps_an_interval, needs_no_place};
use crate::{Arch, Guards, KernelSpec, Matmul, Precision, Schedule, Snippet, Template};

/// What the choice of a kernel depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// The architecture.
    pub arch: Arch,
    /// The dynamic shared memory that a block may ask for, in bytes (`MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`).
    pub smem_limit: u32,
    /// The dtype of the tensors.
    pub dtype: DType,
    /// How f32 is to be multiplied.
    pub matmul: Matmul,
    /// The dimensions.
    pub shape: Shape,
    /// Base addresses, strides and rows are multiples of 16 bytes.
    pub vector_access: bool,
    /// The copy engine of Hopper can address query, key and value, and the scale is above 0.
    pub bulk_copies: bool,
    /// How many registers the mods take.
    pub mods: ModLoad,
    /// What the user insists on.
    pub force: Force,
}

/// How much of a thread's registers mods take beside the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModLoad {
    /// None, or two bounds a row, and a score mod that is a line in the key or depends on the score alone.
    #[default]
    Light,
    /// Values a row, values a column, and the temporaries of an element.
    Heavy,
    /// Besides, the faults of a score mod that nothing has been proved of.
    Faulting,
}

impl ModLoad {
    /// The load of the given mods.
    pub fn of(mask: Option<&Expr>, score: Option<&Expr>, guards: Guards, precision: Precision) -> Self {
        let score_is_light = score.is_none_or(|score| needs_no_place(score, guards, precision));
        match score {
            _ if score_is_light && mask.is_none_or(keeps_an_interval) => Self::Light,
            Some(score) if guards == Guards::Guarded && Faults::of(score).any(score.root()) => Self::Faulting,
            _ => Self::Heavy,
        }
    }
}

/// What the user insists on; for tests and measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Force {
    /// Only this template.
    pub template: Option<Template>,
    /// Only this schedule, if it fits the device.
    pub schedule: Option<Schedule>,
}

/// A kernel, chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Template and tiles.
    pub schedule: Schedule,
    /// Shared memory of a block, in bytes.
    pub smem_bytes: u32,
    /// Why, for logs and `flex kernel`.
    pub reason: String,
}

/// Why no kernel fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The device is too old.
    #[error("no kernel for {0}, expected sm_80 or newer: use the CPU backend")]
    UnsupportedArch(Arch),
    /// The head dims are too large for every kernel.
    #[error(
        "no GPU kernel for head dims {head_dim} and {value_dim}, expected at most {max}: use the CPU backend"
    )]
    HeadDim {
        /// Of query and key.
        head_dim: usize,
        /// Of value.
        value_dim: usize,
        /// The largest there is.
        max: u32,
    },
    /// What is forced does not serve these tensors on this device.
    #[error(
        "the forced {0:?} does not serve this device, dtype, alignment and these head dims: drop what is forced"
    )]
    Forced(Force),
    /// Nothing fits the device's shared memory, or what is forced does not.
    #[error("no kernel fits {limit} bytes of shared memory: the smallest that would do needs {needed}")]
    SharedMemory {
        /// What a block may ask for.
        limit: u32,
        /// What it would need.
        needed: u32,
    },
}

/// Chooses a kernel.
///
/// # Errors
/// If the device is too old, the head dims are too large, or what is forced does not fit.
pub fn plan(request: &Request) -> Result<Plan, PlanError> {
    if !request.arch.is_supported() {
        return Err(PlanError::UnsupportedArch(request.arch));
    }
    let Shape { head_dim, value_dim, .. } = request.shape;
    let largest = head_dim.max(value_dim);
    if largest > portable::MAX_HEAD_DIM as usize {
        return Err(PlanError::HeadDim { head_dim, value_dim, max: portable::MAX_HEAD_DIM });
    }
    let candidates: Vec<(Schedule, &str)> = match request.force.schedule {
        Some(schedule) => vec![(schedule, "forced")],
        None => hopper_lines(request).chain(portable_lines(request)).collect(),
    };
    let wanted =
        |schedule: &Schedule| request.force.template.is_none_or(|template| template == schedule.template);
    let mut needed = None;
    for (schedule, reason) in candidates.into_iter().filter(|(schedule, _)| wanted(schedule)) {
        let smem_bytes = smem_bytes(request, schedule);
        if smem_bytes <= request.smem_limit {
            return Ok(Plan { schedule, smem_bytes, reason: reason.into() });
        }
        needed = Some(needed.map_or(smem_bytes, |least: u32| least.min(smem_bytes)));
    }
    Err(match needed {
        Some(needed) => PlanError::SharedMemory { limit: request.smem_limit, needed },
        None => PlanError::Forced(request.force),
    })
}

/// The lines of the Hopper kernel's table that serve the request.
fn hopper_lines(request: &Request) -> impl Iterator<Item = (Schedule, &'static str)> {
    let Shape { head_dim, value_dim, q_len, .. } = request.shape;
    let forced = request.force.template == Some(Template::ForwardSm90);
    let serves = request.arch.is_hopper()
        && request.dtype != DType::F32
        && request.vector_access
        && request.bulk_copies
        && hopper::takes_head_dims(head_dim, value_dim)
        && (q_len >= hopper::MIN_QUERIES || forced);
    let fits = move |line: &&HopperLine| {
        serves
            && head_dim <= line.head_dim as usize
            && value_dim <= line.value_dim as usize
            && (request.mods <= line.mods || forced)
    };
    HOPPER.iter().filter(fits).map(|line| (line.schedule, line.reason))
}

/// The lines of the portable kernel's table that serve the request.
fn portable_lines(request: &Request) -> impl Iterator<Item = (Schedule, &'static str)> {
    let Shape { head_dim, value_dim, q_len, .. } = request.shape;
    let (arch, mods, half) = (request.arch, request.mods, request.dtype != DType::F32);
    let fits = move |line: &&Line| {
        line.half == half
            && head_dim.max(value_dim) <= line.head_dim as usize
            && q_len <= line.q_len as usize
            && mods <= line.mods
            && (!line.hopper_only || arch.is_hopper() && [head_dim, value_dim] == [line.head_dim as usize; 2])
    };
    PORTABLE.iter().filter(fits).map(|line| (line.schedule, line.reason))
}

/// Lets the kernel of a specification that has its mods stage what they share among the elements of a tile, where that
/// fits the shared memory of a block. What came of it, for mods that have such terms.
pub(crate) fn stage_terms(spec: &mut KernelSpec, smem_limit: u32) -> Option<String> {
    if spec.schedule.template != Template::ForwardSm90 {
        return None;
    }
    let staging = KernelSpec { stages_terms: true, ..spec.clone() };
    let Snippet { terms, staged, .. } = Snippet::of(&staging).ok()?;
    if !terms.any() {
        return None;
    }
    let Schedule { tile_q, tile_kv, .. } = spec.schedule;
    let bytes = hopper::term_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv, staged);
    let needed = hopper::smem_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv) + bytes;
    spec.stages_terms = staged.any() && needed <= smem_limit;
    Some(match spec.stages_terms {
        true if staged == terms => format!("terms are staged in {bytes} bytes: {terms}"),
        true => format!("of the terms ({terms}) those are staged that fit, in {bytes} bytes: {staged}"),
        false => format!("terms ({terms}) are not staged: there is no room, or the rest is long in any case"),
    })
}

fn smem_bytes(request: &Request, schedule: Schedule) -> u32 {
    let (head_dim, value_dim) = (request.shape.head_dim as u32, request.shape.value_dim as u32);
    let Schedule { template, tile_q, tile_kv, .. } = schedule;
    match template {
        Template::ForwardPortable => portable::smem_bytes(request.dtype, head_dim, value_dim, &schedule),
        Template::ForwardSm90 => hopper::smem_bytes(head_dim, value_dim, tile_q, tile_kv),
        Template::MaskTiles => 0,
    }
}

impl Request {
    /// The specification of a planned kernel, as yet without mods.
    pub fn spec(&self, plan: &Plan) -> KernelSpec {
        let (head_dim, value_dim) = (self.shape.head_dim as u32, self.shape.value_dim as u32);
        KernelSpec {
            matmul: self.matmul,
            vector_access: self.vector_access,
            ..KernelSpec::new(self.arch, plan.schedule, self.dtype, head_dim, value_dim)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(arch: Arch, dtype: DType, dims: [usize; 4]) -> Request {
        let [q_len, kv_len, head_dim, value_dim] = dims;
        let shape =
            Shape::new([2, 4, q_len, head_dim], [2, 2, kv_len, head_dim], [2, 2, kv_len, value_dim]).unwrap();
        Request {
            arch,
            smem_limit: arch.smem_limit(),
            dtype,
            matmul: Matmul::Accurate,
            shape,
            vector_access: true,
            bulk_copies: true,
            mods: ModLoad::Light,
            force: Force::default(),
        }
    }

    #[test]
    fn every_head_dim_has_a_kernel_that_fits_every_architecture() {
        for arch in Arch::CHECKED {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                for head_dim in 1..=256 {
                    for value_dim in [1, 64, head_dim, 256] {
                        for mods in [ModLoad::Light, ModLoad::Heavy, ModLoad::Faulting] {
                            // As tensors are that need no padding, and as any others are.
                            let whole =
                                [head_dim, value_dim].iter().all(|d| (d * dtype.size()).is_multiple_of(16));
                            for vector_access in [false, whole] {
                                let base = request(arch, dtype, [1000, 1000, head_dim, value_dim]);
                                let request = Request { mods, vector_access, ..base };
                                let plan = plan(&request).unwrap();
                                let what = format!("{arch} {dtype} {head_dim}/{value_dim}: {}", plan.reason);
                                assert!(plan.smem_bytes <= request.smem_limit, "{what}");
                                let source = crate::KernelSource::new(&request.spec(&plan)).unwrap();
                                assert_eq!(source.smem_bytes, plan.smem_bytes, "{what}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let arch = Arch::of_device(9, 0);
        let good = request(arch, DType::BF16, [100, 100, 128, 128]);
        let old = Request { arch: Arch::of_device(7, 5), ..good };
        assert_eq!(plan(&old), Err(PlanError::UnsupportedArch(old.arch)));
        let wide = request(arch, DType::BF16, [100, 100, 64, 257]);
        assert_eq!(plan(&wide), Err(PlanError::HeadDim { head_dim: 64, value_dim: 257, max: 256 }));
        let small = Request { smem_limit: 1000, ..good };
        assert!(
            matches!(plan(&small), Err(PlanError::SharedMemory { limit: 1000, needed }) if needed > 1000)
        );
    }

    #[test]
    fn what_is_forced_is_taken_or_refused() {
        let good = request(Arch::of_device(9, 0), DType::BF16, [100, 100, 128, 128]);
        let chosen = plan(&good).unwrap().schedule;
        let other = Schedule { tile_kv: 16, ..chosen };
        let forced = Request { force: Force { schedule: Some(other), ..Force::default() }, ..good };
        assert_eq!(plan(&forced).unwrap().schedule, other);
        let huge = Schedule { tile_kv: 256, ..chosen };
        let forced = Request { force: Force { schedule: Some(huge), ..Force::default() }, ..good };
        assert!(matches!(plan(&forced), Err(PlanError::SharedMemory { .. })));
        let force = Force { template: Some(Template::ForwardSm90), ..Force::default() };
        let forced = Request { force, ..request(Arch::OLDEST, DType::BF16, [100, 100, 128, 128]) };
        assert_eq!(plan(&forced), Err(PlanError::Forced(force)));
    }
}
