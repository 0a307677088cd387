//! Every kernel of the plan's table through NVRTC for every architecture: no spills, no warnings. Needs no GPU.

mod common;
#[path = "common/machine_code.rs"]
mod machine_code;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flex_codegen::nvrtc::Nvrtc;
use flex_codegen::plan::{HOPPER, HopperLine, Line, ModLoad, PORTABLE};
use flex_codegen::{Arch, Guards, KernelSource, KernelSpec, MaskTilesSpec, Matmul, Precision, Template};
use flex_core::attention::DType;

/// NVRTC; `None` if the user says that there is none. A missing one is a failure, not a pass.
fn nvrtc() -> Option<std::sync::Arc<Nvrtc>> {
    if std::env::var_os("FLEX_SKIP_NVRTC").is_some_and(|value| value == "1") {
        eprintln!("skipped: FLEX_SKIP_NVRTC=1");
        return None;
    }
    Some(Nvrtc::get().expect("NVRTC, or FLEX_SKIP_NVRTC=1 to go without these checks"))
}

fn with_mods(base: &KernelSpec, mask: &str, score: Option<&str>, guards: Guards) -> KernelSpec {
    KernelSpec { mask: Some(common::expr(mask)), score: score.map(common::expr), guards, ..base.clone() }
}

/// What is compiled for a line of the table.
fn specs_of(line: &Line, arch: Arch) -> Vec<KernelSpec> {
    let dtype = if line.half { DType::BF16 } else { DType::F32 };
    let base = KernelSpec::new(arch, line.schedule, dtype, line.head_dim, line.head_dim);
    let mut specs = vec![base.clone()];
    if line.mods == ModLoad::Light {
        specs.push(with_mods(&base, "sliding_window", None, Guards::Guarded));
        specs.push(with_mods(&base, "causal", Some("alibi"), Guards::Proved));
        specs.push(with_mods(&base, "sliding_window", Some("softcap"), Guards::Proved));
    } else {
        specs.push(with_mods(&base, "natten", Some("softcap"), Guards::Proved));
        specs.push(with_mods(&base, "document_causal", None, Guards::Guarded));
    }
    if line.mods == ModLoad::Faulting {
        specs.push(with_mods(&base, "document_causal", Some("alibi"), Guards::Guarded));
    }
    if !line.half {
        specs.push(KernelSpec { matmul: Matmul::Tf32, ..base.clone() });
    }
    if line.hopper_only {
        return specs;
    }
    // Code that does not depend on the architecture is enough to see once.
    if arch.is_hopper() {
        if line.half {
            specs.push(KernelSpec { dtype: DType::F16, ..base.clone() });
        }
        specs.push(KernelSpec { head_dim: line.head_dim - 16, ..base.clone() });
        specs.push(KernelSpec { value_dim: line.head_dim / 2, ..base.clone() });
        specs.push(KernelSpec { head_dim: line.head_dim - 5, value_dim: 24, vector_access: false, ..base });
    }
    specs
}

fn source(spec: &KernelSpec) -> KernelSource {
    KernelSource::new(spec).expect("a valid specification")
}

fn fits(spec: &KernelSpec, arch: Arch) -> bool {
    source(spec).smem_bytes <= arch.smem_limit()
}

/// What is wrong with the instructions of a kernel that is to use the tensor cores of Hopper.
fn wrong_instructions(source: &KernelSource, cubin: &[u8]) -> Option<String> {
    if source.schedule.template != Template::ForwardSm90 {
        return None;
    }
    let operations = machine_code::operations(cubin, source.entry);
    let count = |wanted: u16| operations.iter().filter(|&&operation| operation == wanted).count();
    let (scores, outputs) = (count(machine_code::HGMMA_SHARED), count(machine_code::HGMMA_REGISTERS));
    let local: usize = machine_code::LOCAL.into_iter().map(count).sum();
    // An output takes a product for every 16 keys.
    let complete = scores > 0 && outputs >= source.schedule.tile_kv as usize / 16 && local == 0;
    (!complete).then(|| {
        format!("{scores} products for scores, {outputs} for outputs, {local} accesses of local memory")
    })
}

/// Compiles on two threads; the complaints.
fn check<S: Sync>(nvrtc: &Nvrtc, specs: &[S], source: impl Fn(&S) -> KernelSource + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let complaints = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(spec) = specs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let source = source(spec);
                    let complaint = match source.compile_with(nvrtc) {
                        Ok(c) if c.log.spill_bytes == 0 && c.log.warnings.is_empty() => {
                            match wrong_instructions(&source, &c.cubin) {
                                Some(complaint) => complaint,
                                None => continue,
                            }
                        }
                        Ok(c) => format!("{} bytes spilled, {:?}", c.log.spill_bytes, c.log.warnings),
                        Err(error) => error.to_string(),
                    };
                    complaints.lock().unwrap().push(format!("{}: {complaint}", source.describe));
                }
            });
        }
    });
    complaints.into_inner().unwrap()
}

#[test]
fn every_line_of_the_table_compiles_everywhere_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    let mut specs = Vec::new();
    for arch in Arch::CHECKED {
        for line in PORTABLE.iter().filter(|line| !line.hopper_only || arch.is_hopper()) {
            specs.extend(specs_of(line, arch).into_iter().filter(|spec| fits(spec, arch)));
        }
    }
    let complaints = check(&nvrtc, &specs, source);
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), specs.len(), complaints.join("\n"));
}

#[test]
fn every_kind_of_mod_compiles_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    let arch = Arch::of_device(9, 0);
    let mut specs = Vec::new();
    let pairs = common::MASKS.iter().map(|(mask, _)| (*mask, None));
    for (mask, score) in pairs.chain(common::SCORES.iter().map(|(score, _)| ("causal", Some(*score)))) {
        for guards in [Guards::Guarded, Guards::Proved] {
            let score_expr = score.map(common::expr);
            let load = ModLoad::of(Some(&common::expr(mask)), score_expr.as_deref(), guards, Precision::Fast);
            let fits =
                |line: &&Line| line.half && line.q_len > 64 && line.head_dim == 128 && load <= line.mods;
            let line = PORTABLE.iter().find(fits).expect("a line for head dim 128");
            let base = KernelSpec::new(arch, line.schedule, DType::BF16, 128, 128);
            specs.push(with_mods(&base, mask, score, guards));
        }
    }
    let complaints = check(&nvrtc, &specs, source);
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), specs.len(), complaints.join("\n"));
}

#[test]
fn the_hopper_kernel_compiles_with_every_kind_of_mod_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    let arch = Arch::of_device(9, 0);
    let mut specs = Vec::new();
    for line in HOPPER {
        let base = KernelSpec::new(arch, line.schedule, DType::BF16, line.head_dim, line.value_dim);
        specs.push(base.clone());
        specs.push(KernelSpec { dtype: DType::F16, ..base.clone() });
        specs.push(KernelSpec { head_dim: line.head_dim - 16, ..base.clone() });
        specs.push(KernelSpec { head_dim: 48, value_dim: 64, ..base.clone() });
        specs.push(with_mods(&base, "causal", None, Guards::Proved));
        specs.push(KernelSpec { kept_keys_from_table: true, ..base.clone() });
        if line.mods == ModLoad::Faulting {
            specs.push(with_mods(&base, "document_causal", Some("alibi"), Guards::Guarded));
        }
        specs.push(with_mods(&base, "causal", Some("alibi"), Guards::Proved));
        specs.push(with_mods(&base, "document_causal", Some("softcap"), Guards::Proved));
    }
    // Head dims between those of the lines.
    for (head_dim, value_dim) in [(96, 96), (160, 128)] {
        let fits = |line: &&HopperLine| line.head_dim >= head_dim && line.value_dim >= value_dim;
        let schedule = HOPPER.iter().find(fits).expect("a line of the table").schedule;
        for dtype in [DType::BF16, DType::F16] {
            let base = KernelSpec::new(arch, schedule, dtype, head_dim, value_dim);
            specs.push(with_mods(&base, "causal", Some("alibi"), Guards::Proved));
            specs.push(base);
        }
    }
    for (name, _) in common::MASKS {
        let base = KernelSpec::new(arch, HOPPER[1].schedule, DType::BF16, 128, 128);
        specs.push(with_mods(&base, name, None, Guards::Proved));
    }
    for (name, _) in common::SCORES {
        let base = KernelSpec::new(arch, HOPPER[1].schedule, DType::BF16, 128, 128);
        specs.push(with_mods(&base, "causal", Some(name), Guards::Proved));
    }
    for line in HOPPER {
        let base = KernelSpec::new(arch, line.schedule, DType::BF16, line.head_dim, line.value_dim);
        let base = KernelSpec { precision: Precision::Accurate, ..base };
        let long =
            "v0 = score\nv1 = kv\nv2 = cast f32 v1\nv3 = ln v0\nv4 = rem v3, v2\nv5 = pow v4, v0\nreturn v5";
        specs.push(KernelSpec { score: Some(Arc::new(long.parse().unwrap())), ..base });
    }
    let complaints = check(&nvrtc, &specs, source);
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), specs.len(), complaints.join("\n"));
}

#[test]
fn the_hopper_kernel_stages_terms_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    let arch = Arch::of_device(9, 0);
    let mut specs = Vec::new();
    for line in HOPPER {
        let base = KernelSpec::new(arch, line.schedule, DType::BF16, line.head_dim, line.value_dim);
        let base = KernelSpec { stages_terms: true, ..base };
        let both = with_mods(&base, "document_causal", Some("relative_bias"), Guards::Proved);
        let of_keys = with_mods(&base, "natten", None, Guards::Proved);
        let of_distances = KernelSpec { mask: None, ..both.clone() };
        specs.extend([both, of_keys, of_distances].into_iter().filter(|spec| source(spec).stages_terms));
    }
    assert!(specs.iter().any(|spec| spec.head_dim == 256), "terms of keys fit beside the largest tiles");
    let complaints = check(&nvrtc, &specs, source);
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), specs.len(), complaints.join("\n"));
}

#[test]
fn a_source_that_cannot_compile_gives_the_compilers_words() {
    let Some(nvrtc) = nvrtc() else { return };
    let error = nvrtc.compile("wrong.cu", "__global__ void f() { undeclared = 1; }", &[], &[]).unwrap_err();
    assert!(error.to_string().contains("undeclared"), "{error}");
    let unknown = Arch { major: 31, minor: 0, specific: false };
    assert!(nvrtc.check_arch(unknown).unwrap_err().to_string().contains("sm_310"));
}

#[test]
fn the_kernel_that_judges_tiles_compiles_everywhere_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    let mut specs = Vec::new();
    for arch in Arch::CHECKED {
        // The others differ in nothing that depends on the architecture.
        let shown = |name: &str| arch.is_hopper() || ["document_causal", "natten"].contains(&name);
        for (name, _) in common::MASKS.iter().filter(|(name, _)| shown(name)) {
            for guards in [Guards::Guarded, Guards::Proved] {
                specs.push(MaskTilesSpec { arch, guards, mask: common::expr(name) });
            }
        }
    }
    let complaints = check(&nvrtc, &specs, |spec| spec.source().expect("a valid specification"));
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), specs.len(), complaints.join("\n"));
}
