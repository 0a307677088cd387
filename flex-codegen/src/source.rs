//! The text of a kernel: constants, the mods, and the instantiation of a template.

use std::fmt::Write;

use flex_core::attention::DType;

use crate::plan::{hopper, portable};
use crate::{
    Arch, CaptureLayout, CodegenError, FaultSites, Guards, KernelSpec, Matmul, Precision, Schedule,
    StagedTerms, Template,
};

/// The generated `Captures` and `Mods`, and what the host must know of them.
#[derive(Clone, Debug)]
pub struct Snippet {
    /// C++ inside `namespace flex`.
    pub text: String,
    /// The layout of `Captures`.
    pub captures: CaptureLayout,
    /// What the code may record as faults.
    pub fault_sites: FaultSites,
    /// What is worth computing once a tile and keeping in shared memory; none unless the specification asks for it.
    pub terms: StagedTerms,
    /// What of it the kernel does so: all, or what fits.
    pub staged: StagedTerms,
}

/// Everything that goes into the compiler, and what is known of the result before.
#[derive(Clone, Debug)]
pub struct KernelSource {
    /// What the kernel is, in a line.
    pub describe: String,
    /// The translation unit.
    pub text: String,
    /// The templates, `(name as included, text)`.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The compiler's options.
    pub options: Vec<String>,
    /// The name of the kernel.
    pub entry: &'static str,
    /// Template and tiles.
    pub schedule: Schedule,
    /// Threads a block.
    pub threads: u32,
    /// Dynamic shared memory a block, in bytes.
    pub smem_bytes: u32,
    /// Part of what its mods compute is staged in shared memory.
    pub stages_terms: bool,
    /// The layout of the captures.
    pub captures: CaptureLayout,
    /// What the mods may record as faults.
    pub fault_sites: FaultSites,
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}
pub(crate) use templates;

const FORWARD_PORTABLE: &[(&str, &str)] = templates![
    "forward_portable.cuh",
    "flex/default_mods.cuh",
    "flex/elements.cuh",
    "flex/fault.cuh",
    "flex/mod_traits.cuh",
    "flex/ops.cuh",
    "flex/problem.cuh",
    "flex/products.cuh",
    "flex/products_f32.cuh",
    "flex/products_half.cuh",
    "flex/products_tf32.cuh",
    "flex/ptx.cuh",
    "flex/row_terms.cuh",
    "flex/softmax.cuh",
    "flex/tile_copy.cuh",
    "flex/tile_io.cuh",
    "flex/tile_walk.cuh",
];

const FORWARD_SM90: &[(&str, &str)] = templates![
    "forward_sm90.cuh",
    "flex/default_mods.cuh",
    "flex/fault.cuh",
    "flex/mod_traits.cuh",
    "flex/ops.cuh",
    "flex/problem.cuh",
    "hopper/descriptor.cuh",
    "hopper/element.cuh",
    "hopper/forward/config.cuh",
    "hopper/forward/consumer.cuh",
    "hopper/forward/loader.cuh",
    "hopper/forward/output.cuh",
    "hopper/forward/scheduler.cuh",
    "hopper/forward/scores.cuh",
    "hopper/forward/softmax.cuh",
    "hopper/forward/staging.cuh",
    "hopper/mbarrier.cuh",
    "hopper/tma.cuh",
    "hopper/warpgroup.cuh",
    "hopper/wgmma.cuh",
];

impl KernelSource {
    /// The source of a specification.
    ///
    /// # Errors
    /// If the specification contradicts itself or no kernel can do what it asks.
    pub fn new(spec: &KernelSpec) -> Result<Self, CodegenError> {
        if !spec.arch.is_supported() {
            return Err(CodegenError::UnsupportedArch { arch: spec.arch });
        }
        let snippet = Snippet::of(spec)?;
        match spec.schedule.template {
            Template::ForwardPortable => Self::forward_portable(spec, snippet),
            Template::ForwardSm90 => Self::forward_sm90(spec, snippet),
            Template::MaskTiles => Err(CodegenError::Spec {
                what: "the template",
                got: spec.schedule.template.name().into(),
                expected: "one that computes attention",
            }),
        }
    }

    fn forward_portable(spec: &KernelSpec, snippet: Snippet) -> Result<Self, CodegenError> {
        portable::check(spec)?;
        let Schedule { tile_q, tile_kv, warps, blocks_per_sm, .. } = spec.schedule;
        let entry = "flex_forward_portable";
        let threads = warps * 32;
        let describe = describe(spec);
        let products = match (spec.dtype, spec.matmul) {
            (DType::F16, _) => "HalfProducts<f16>",
            (DType::BF16, _) => "HalfProducts<bf16>",
            (DType::F32, Matmul::Accurate) => "F32Products",
            (DType::F32, Matmul::Tf32) => "Tf32Products",
        };
        let mut text = format!("// {describe}\n#include \"flex/ops.cuh\"\n#include \"flex/fault.cuh\"\n");
        text.push_str(&snippet.text);
        write!(
            text,
            r#"
#include "forward_portable.cuh"

namespace flex {{
struct Config {{
    using Products = {products};
    static constexpr int kHeadDim = {head_dim};
    static constexpr int kValueDim = {value_dim};
    static constexpr int kTileQ = {tile_q};
    static constexpr int kTileKv = {tile_kv};
    static constexpr int kWarps = {warps};
    static constexpr bool kVectorAccess = {vector_access};
}};
}}  // namespace flex

extern "C" __global__ void __launch_bounds__({threads}, {blocks_per_sm})
{entry}(const __grid_constant__ flex::Problem problem, const __grid_constant__ flex::Captures captures) {{
    flex::forward_portable<flex::Config>(problem, captures);
}}
"#,
            head_dim = spec.head_dim,
            value_dim = spec.value_dim,
            vector_access = spec.vector_access,
        )
        .expect("writing to a string");
        Ok(Self {
            describe,
            text,
            headers: FORWARD_PORTABLE.to_vec(),
            options: Self::options(spec.arch, spec.precision == Precision::Accurate),
            entry,
            schedule: spec.schedule,
            threads,
            stages_terms: false,
            smem_bytes: portable::smem_bytes(spec.dtype, spec.head_dim, spec.value_dim, &spec.schedule),
            captures: snippet.captures,
            fault_sites: snippet.fault_sites,
        })
    }

    fn forward_sm90(spec: &KernelSpec, snippet: Snippet) -> Result<Self, CodegenError> {
        hopper::check(spec)?;
        let Schedule { tile_q, tile_kv, warps, .. } = spec.schedule;
        let entry = "flex_forward_sm90";
        let describe = describe(spec);
        let element = if spec.dtype == DType::F16 { "F16" } else { "Bf16" };
        let terms = match snippet.staged {
            staged if staged.any() => format!(", {}, {}", staged.of_keys, staged.of_distances),
            _ => String::new(),
        };
        let mut text = format!("// {describe}\n#include \"flex/ops.cuh\"\n#include \"flex/fault.cuh\"\n");
        text.push_str(&snippet.text);
        write!(
            text,
            r#"
#include "forward_sm90.cuh"

namespace flex {{
using Config = hopper::ForwardConfig<hopper::{element}, {head_dim}, {value_dim}, {tile_q}, {tile_kv}, {stages}{terms}>;
}}  // namespace flex

extern "C" __global__ void __launch_bounds__(flex::Config::kThreads, 1)
{entry}(const __grid_constant__ flex::Problem problem, const __grid_constant__ flex::Captures captures,
        const __grid_constant__ flex::hopper::TensorMap query_map,
        const __grid_constant__ flex::hopper::TensorMap key_map,
        const __grid_constant__ flex::hopper::TensorMap value_map) {{
    flex::hopper::forward<flex::Config, flex::Mods>(problem, captures, query_map, key_map, value_map);
}}
"#,
            head_dim = spec.head_dim,
            value_dim = spec.value_dim,
            stages = hopper::stages(spec.head_dim, spec.value_dim),
        )
        .expect("writing to a string");
        Ok(Self {
            describe,
            text,
            headers: FORWARD_SM90.to_vec(),
            options: Self::options(spec.arch, spec.precision == Precision::Accurate),
            entry,
            schedule: spec.schedule,
            // The warpgroup that feeds the others comes on top.
            threads: (warps + 4) * 32,
            stages_terms: snippet.staged.any(),
            smem_bytes: hopper::smem_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv)
                + hopper::term_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv, snippet.staged),
            captures: snippet.captures,
            fault_sites: snippet.fault_sites,
        })
    }

    pub(crate) fn options(arch: Arch, accurate: bool) -> Vec<String> {
        let mut options = vec![
            format!("--gpu-architecture={arch}"),
            "--std=c++17".into(),
            "-default-device".into(),
            "--ptxas-options=-v".into(),
        ];
        if accurate {
            // Mods round after every operation, as Rust does; the templates fuse explicitly.
            options.push("--fmad=false".into());
        }
        options
    }

    /// The name of the kernel in caches and bundles: the hash of everything that goes into the compiler, and
    /// of what the host is told beside. The compiler's
    /// version is not part of it, so that bundles are found without one.
    pub fn key(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(env!("CARGO_PKG_VERSION"));
        part(&self.text);
        self.options.iter().for_each(|option| part(option));
        for (name, text) in &self.headers {
            part(name);
            part(text);
        }
        // What the host must know of the kernel is not all in its text: a captured bool and a u32 look alike there.
        part(&format!("{:?} {:?}", self.captures, self.fault_sites));
        hash.finalize().to_hex()[..32].to_owned()
    }
}

fn describe(spec: &KernelSpec) -> String {
    let Schedule { template, tile_q, tile_kv, warps, .. } = spec.schedule;
    let mut text = format!(
        "{} for {}: {}{}, head dims {}/{}, tiles {tile_q}x{tile_kv}, {warps} warps",
        template.name(),
        spec.arch,
        spec.dtype,
        if spec.matmul == Matmul::Tf32 { " through tf32" } else { "" },
        spec.head_dim,
        spec.value_dim,
    );
    for (there, name) in [(spec.mask.is_some(), "mask"), (spec.score.is_some(), "score mod")] {
        if there {
            text += ", ";
            text += name;
        }
    }
    if spec.kept_keys_from_table {
        text += ", kept keys from a table";
    }
    if spec.mask.is_some() || spec.score.is_some() {
        text += match spec.precision {
            Precision::Accurate => ", accurate",
            Precision::Fast => ", fast",
        };
        if spec.guards == Guards::Proved {
            text += ", loads proved in bounds";
        }
    }
    if !spec.vector_access {
        text += ", element access";
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::portable::tests::any_schedule;

    #[test]
    fn kernels_that_are_launched_differently_have_different_keys() {
        let key = |capture: &str| {
            let mask = format!("capture @0 = c0: {capture}\nv0 = q\nv1 = kv\nv2 = ge v0, v1\nreturn v2");
            let base = KernelSpec::new(Arch::OLDEST, any_schedule(), DType::BF16, 64, 64);
            let spec = KernelSpec { mask: Some(Arc::new(mask.parse().unwrap())), ..base };
            KernelSource::new(&spec).unwrap().key()
        };
        assert_eq!(key("bool"), key("bool"));
        assert_ne!(key("bool"), key("u32"));
    }
}
