//! Attention on a GPU: checks, the prepared call, the launch.

use std::ffi::c_void;

use flex_codegen::{Guards, Matmul, Precision, Template, abi, plan};
use flex_core::attention::{AttentionError, DType, Shape};
use flex_core::mask::BlockMask;
use flex_core::mods::{MaskMod, ModFault, ScoreMod};

use super::calls::{CallSpec, MaskSource, PreparedCall};
use super::driver::LaunchConfig;
use super::layout::{self, Role};
use super::tensor::uninit;
use super::tma::TensorMap;
use super::{CudaDevice, CudaError, CudaStream, CudaTensorMut, CudaTensorRef};
use crate::tensor::check_result;
use crate::{Aux, Device, Error, Output};

/// What may be said about a call on the GPU beyond what it computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CudaOptions<'a> {
    /// The stream to run on; that of query unless set.
    pub stream: Option<&'a CudaStream>,
    /// How exactly the mods compute: unless set, accurately for f32 and with the hardware's approximations for f16 and
    /// bf16.
    pub precision: Option<Precision>,
    /// How f32 tensors are multiplied.
    pub matmul: Matmul,
    /// A kernel or tiles to insist on; for tests and measurements.
    pub force: plan::Force,
}

/// A call of `flex_attention` on a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) query: CudaTensorRef<'a>,
    pub(crate) key: CudaTensorRef<'a>,
    pub(crate) value: CudaTensorRef<'a>,
    pub(crate) scale: Option<f32>,
    pub(crate) score_mod: Option<&'a ScoreMod>,
    pub(crate) block_mask: Option<&'a BlockMask>,
    pub(crate) mask_mod: Option<&'a MaskMod>,
    pub(crate) options: CudaOptions<'a>,
}

/// Where the results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Results<'a> {
    pub(crate) out: CudaTensorRef<'a>,
    pub(crate) lse: Option<CudaTensorRef<'a>>,
    pub(crate) max_scores: Option<CudaTensorRef<'a>>,
}

impl<'a> Call<'a> {
    /// Computes into new tensors.
    pub(crate) fn run(&self, aux: Aux) -> Result<Output, Error> {
        let shape = self.validate()?;
        let (stream, dtype) = (self.stream(), self.query.dtype());
        let per_row = [shape.batch, shape.heads, shape.q_len, 1];
        let rows = |asked| match aux.contains(asked) {
            true => uninit(stream, DType::F32, per_row).map(Some),
            false => Ok(None),
        };
        let output = Output {
            out: uninit(stream, dtype, shape.out())?,
            lse: rows(Aux::LSE)?,
            max_scores: rows(Aux::MAX_SCORES)?,
        };
        let on_device = |tensor| CudaTensorRef::try_from(tensor);
        self.launch(
            &shape,
            &Results {
                out: on_device(&output.out)?,
                lse: output.lse.as_ref().map(on_device).transpose()?,
                max_scores: output.max_scores.as_ref().map(on_device).transpose()?,
            },
        )?;
        Ok(output)
    }

    /// Computes into tensors that are there.
    pub(crate) fn run_into(
        &self,
        out: &CudaTensorMut<'_>,
        lse: Option<&CudaTensorMut<'_>>,
        max_scores: Option<&CudaTensorMut<'_>>,
    ) -> Result<(), Error> {
        let shape = self.validate()?;
        let per_row = [shape.batch, shape.heads, shape.q_len, 1];
        let results = Results {
            out: out.as_ref(),
            lse: lse.map(CudaTensorMut::as_ref),
            max_scores: max_scores.map(CudaTensorMut::as_ref),
        };
        let form = |tensor: &CudaTensorRef<'_>| (tensor.dtype(), tensor.shape());
        check_result("out", form(&results.out), (self.query.dtype(), shape.out()))?;
        for (name, rows) in [("lse", &results.lse), ("max_scores", &results.max_scores)] {
            if let Some(rows) = rows {
                check_result(name, form(rows), (DType::F32, per_row))?;
                layout::check_contiguous(name, rows)?;
            }
        }
        self.launch(&shape, &results)
    }

    fn stream(&self) -> &'a CudaStream {
        self.options.stream.unwrap_or(self.query.stream())
    }

    fn validate(&self) -> Result<Shape, Error> {
        let expected = self.query.dtype();
        for (tensor, got) in [("key", self.key.dtype()), ("value", self.value.dtype())] {
            if got != expected {
                return Err(AttentionError::DTypeMismatch { tensor, expected, got }.into());
            }
        }
        let shape = Shape::new(self.query.shape(), self.key.shape(), self.value.shape())?;
        if let Some(got) = self.scale.filter(|scale| !scale.is_finite()) {
            return Err(AttentionError::Scale { got }.into());
        }
        if let Some(mask) = self.block_mask {
            shape.check_mask(mask)?;
        }
        Ok(shape)
    }

    /// In the boxes of the kernel: the rows of a warpgroup of query, a tile of key and value.
    fn tensor_maps(&self, call: &PreparedCall) -> Result<TensorMaps, CudaError> {
        const WARPGROUP_ROWS: u32 = 64;
        let (driver, tile_kv) = (self.query.device().driver(), call.kernel.compiled.tile_kv);
        Ok([
            TensorMap::encode(driver, &self.query, WARPGROUP_ROWS)?,
            TensorMap::encode(driver, &self.key, tile_kv)?,
            TensorMap::encode(driver, &self.value, tile_kv)?,
        ])
    }

    fn launch(&self, shape: &Shape, results: &Results<'_>) -> Result<(), Error> {
        let stream = self.stream();
        let device = stream.device();
        let tensors = [
            ("query", self.query, Role::Read),
            ("key", self.key, Role::Read),
            ("value", self.value, Role::Read),
            ("out", results.out, Role::Written),
        ];
        let mut vector_access = true;
        for (name, tensor, role) in &tensors {
            check_device(name, tensor, device)?;
            vector_access &= layout::check(name, tensor, *role)?;
        }
        let rows = [("lse", results.lse), ("max_scores", results.max_scores)];
        for (name, tensor) in rows {
            tensor.map_or(Ok(()), |tensor| check_device(name, &tensor, device))?;
        }

        let scale = self.scale.unwrap_or_else(|| shape.default_scale());
        let describable = [&self.query, &self.key, &self.value].into_iter().all(TensorMap::can_describe);
        let spec = CallSpec {
            shape: *shape,
            dtype: self.query.dtype(),
            vector_access,
            bulk_copies: describable && scale > 0.0,
            positive_scale: Guards::is_positive(scale),
            precision: self.options.precision,
            matmul: self.options.matmul,
            force: self.options.force,
            mask: MaskSource::of(self.block_mask, self.mask_mod),
            score: self.score_mod,
        };
        let call = device.calls().get(device, &spec)?;
        let problem = abi::Problem {
            query: self.query.ptr(),
            key: self.key.ptr(),
            value: self.value.ptr(),
            out: results.out.ptr(),
            lse: results.lse.map_or(0, |rows| rows.ptr()),
            max_score: results.max_scores.map_or(0, |rows| rows.ptr()),
            query_strides: layout::strides(&self.query),
            key_strides: layout::strides(&self.key),
            value_strides: layout::strides(&self.value),
            out_strides: layout::strides(&results.out),
            scale,
            ..call.problem
        };

        let _context = device.enter()?;
        let maps = match call.kernel.compiled.template {
            Template::ForwardSm90 => Some(self.tensor_maps(&call)?),
            _ => None,
        };
        let streams = || tensors.iter().map(|(_, tensor, _)| *tensor).chain(rows.iter().filter_map(|r| r.1));
        for tensor in streams() {
            stream.wait_for(tensor.stream())?;
        }
        let fault = launch_and_check(stream, &call, problem, maps.as_ref(), &spec)?;
        for tensor in streams() {
            // So that the memory is not written or freed by its owner while this call is still reading it.
            tensor.stream().wait_for(stream)?;
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// The copy engine's views of query, key and value.
type TensorMaps = [TensorMap; 3];

/// Launches, and where a mod may fault, waits for the launch and looks whether one did.
fn launch_and_check(
    stream: &CudaStream,
    call: &PreparedCall,
    mut problem: abi::Problem,
    maps: Option<&TensorMaps>,
    spec: &CallSpec<'_>,
) -> Result<Option<ModFault>, CudaError> {
    let compiled = &call.kernel.compiled;
    let capturing = stream.is_capturing()?;
    if capturing && compiled.can_fault() {
        return Err(CudaError::FaultInCapture);
    }
    if capturing {
        call.keep_for_graph();
    }
    if maps.is_some() {
        problem.next_work = stream.device().work_counters().get(stream, capturing)?;
    }
    if !compiled.can_fault() {
        launch(stream, call, &problem, maps)?;
        return Ok(None);
    }
    let device = stream.device();
    let record = device.faults().take(device)?;
    problem.fault = record.ptr();
    launch(stream, call, &problem, maps)?;
    let record = record.read(stream)?;
    if record.claimed == 0 {
        return Ok(None);
    }
    let fault = compiled.fault_sites.describe(&record, spec.mask.bound(), spec.score.map(ScoreMod::bound));
    fault.map(Some).ok_or_else(|| CudaError::BrokenFaultRecord {
        kernel: compiled.key.clone(),
        record: format!("{record:?}"),
    })
}

/// Queues the kernel; its parameters are copied before this returns.
fn launch(
    stream: &CudaStream,
    call: &PreparedCall,
    problem: &abi::Problem,
    maps: Option<&TensorMaps>,
) -> Result<(), CudaError> {
    let compiled = &call.kernel.compiled;
    let config = LaunchConfig {
        grid: [call.blocks, 1, 1],
        block: [compiled.threads, 1, 1],
        dynamic_smem_bytes: compiled.smem_bytes,
        stream: stream.raw(),
        attributes: std::ptr::null_mut(),
        attribute_count: 0,
    };
    let mut params: [*mut c_void; 5] = [std::ptr::null_mut(); 5];
    params[0] = (&raw const *problem).cast_mut().cast();
    params[1] = call.captures.as_ptr().cast_mut().cast();
    for (param, map) in params[2..].iter_mut().zip(maps.into_iter().flatten()) {
        *param = (&raw const *map).cast_mut().cast();
    }
    // SAFETY: the kernel takes (Problem, Captures), and the Hopper kernel, which alone has maps, three of them; `captures` was packed by the kernel's own layout, so both are as
    // large as the driver reads. Device, layouts and lengths of the tensors were checked, so the kernel stays inside
    // memory that their owners vouch for; captures and mask live as long as `call`, and freeing them waits for the
    // device.
    unsafe {
        stream.device().driver().launch(
            &config,
            call.kernel.function,
            params.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}

fn check_device(tensor: &'static str, got: &CudaTensorRef<'_>, expected: CudaDevice) -> Result<(), Error> {
    if got.device() == expected {
        return Ok(());
    }
    let (expected, got) = (Device::Cuda(expected), Device::Cuda(got.device()));
    Err(Error::DeviceMismatch { tensor, expected, got })
}
