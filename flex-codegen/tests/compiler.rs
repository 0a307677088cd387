//! Where kernels come from: memory, disk, bundle, NVRTC; counted.

mod common;

use std::fs;
use std::sync::Arc;

use flex_codegen::bundle::Bundle;
use flex_codegen::{Arch, CodegenError, Compiler, KernelSpec, Schedule, Stats, Template};
use flex_core::attention::DType;

fn skipped() -> bool {
    std::env::var_os("FLEX_SKIP_NVRTC").is_some_and(|value| value == "1")
}

/// A kernel that compiles quickly.
fn spec() -> KernelSpec {
    let schedule =
        Schedule { template: Template::ForwardPortable, tile_q: 16, tile_kv: 16, warps: 1, blocks_per_sm: 1 };
    KernelSpec {
        mask: Some(common::expr("causal")),
        ..KernelSpec::new(Arch::OLDEST, schedule, DType::F16, 16, 16)
    }
}

#[test]
fn a_kernel_is_compiled_once_and_found_again() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let compiler = || Compiler::new().with_cache_dir(Some(dir.path().into()));
    let first = compiler();
    let kernel = first.kernel(&spec()).unwrap();
    assert!(kernel.cubin.starts_with(b"\x7fELF") && kernel.resources.registers > 0);
    assert_eq!((kernel.threads, kernel.tile_q, kernel.tile_kv, kernel.can_fault()), (32, 16, 16, false));
    assert!(Arc::ptr_eq(&kernel, &first.kernel(&spec()).unwrap()));
    assert_eq!(first.stats(), Stats { compiles: 1, memory_hits: 1, ..Stats::default() });

    let second = compiler();
    assert_eq!(second.kernel(&spec()).unwrap(), kernel);
    assert_eq!(second.stats(), Stats { disk_hits: 1, ..Stats::default() });

    // Another mod is another kernel.
    let other = KernelSpec { mask: Some(common::expr("sliding_window")), ..spec() };
    assert_ne!(second.kernel(&other).unwrap().key, kernel.key);
    assert_eq!(second.stats().compiles, 1);
}

#[test]
fn a_damaged_cache_costs_a_compilation() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let compiler = || Compiler::new().with_cache_dir(Some(dir.path().into()));
    let kernel = compiler().kernel(&spec()).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::write(entry.unwrap().path(), b"not a kernel").unwrap();
    }
    let again = compiler();
    assert_eq!(again.kernel(&spec()).unwrap().cubin, kernel.cubin);
    assert_eq!(again.stats(), Stats { compiles: 1, ..Stats::default() });
}

#[test]
fn threads_that_ask_together_share_one_compilation() {
    if skipped() {
        return;
    }
    let compiler = Compiler::new().with_cache_dir(None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| compiler.kernel(&spec()).unwrap());
        }
    });
    assert_eq!(compiler.stats(), Stats { compiles: 1, memory_hits: 7, ..Stats::default() });
}

#[test]
fn a_bundle_stands_in_for_the_compiler() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let kernel = Compiler::new().with_cache_dir(None).kernel(&spec()).unwrap();
    let mut bundle = Bundle::new();
    bundle.insert("causal", kernel.clone());
    bundle.write(dir.path()).unwrap();

    let bundled = Compiler::new().with_cache_dir(None).with_bundle(Bundle::read(dir.path()).unwrap(), true);
    assert_eq!(bundled.kernel(&spec()).unwrap(), kernel);
    let missing = bundled.kernel(&KernelSpec { mask: None, ..spec() });
    assert!(matches!(missing, Err(CodegenError::NotInBundle { .. })), "{missing:?}");
    assert_eq!(bundled.stats(), Stats { bundle_hits: 1, ..Stats::default() });
}

#[test]
fn a_specification_that_contradicts_itself_is_refused() {
    let compiler = Compiler::new().with_cache_dir(None);
    let refused = |spec: KernelSpec| compiler.kernel(&spec).unwrap_err().to_string();
    assert!(refused(KernelSpec { head_dim: 0, ..spec() }).contains("head_dim is 0"));
    assert!(refused(KernelSpec { head_dim: 20, ..spec() }).contains("multiple of 16 bytes"));
    let schedule = Schedule { tile_q: 24, ..spec().schedule };
    assert!(refused(KernelSpec { schedule, ..spec() }).contains("tile_q"));
    let old = Arch { major: 7, minor: 5, specific: false };
    assert!(refused(KernelSpec { arch: old, ..spec() }).contains("sm_75"));
}
