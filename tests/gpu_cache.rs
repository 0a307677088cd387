//! What is compiled when, and what a call costs the host. One test at a time: they count compilations.
#![cfg(feature = "cuda")]

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flex_attention::cuda::{self, Bundle, Compiler, CudaDevice, CudaError, Stats};
use flex_attention::library::{alibi, causal, document, sliding_window, softcap};
use flex_attention::prelude::*;
use flex_attention::{Error, score_mod};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::gpu::{Case, gpu};

/// Holds the process's compiler for one test.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A compiler with nothing in memory, and a device without prepared calls.
fn start_with(compiler: Compiler) {
    cuda::set_compiler(compiler);
    CudaDevice::new(0).unwrap().trim().unwrap();
}

fn stats() -> Stats {
    cuda::compiler().stats()
}

fn case(len: usize) -> Case {
    let mut rng = StdRng::seed_from_u64(len as u64);
    Case::random(&mut rng, DType::BF16, [1, 2, len, 64], [1, 2, len, 64], 64)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn lengths_scalars_and_captures_compile_nothing() {
    let (_alone, gpu) = (alone(), gpu());
    start_with(Compiler::new().with_cache_dir(None));
    let run = |len: usize, window: i32, slopes: &[f32]| {
        let case =
            case(len).masked(sliding_window::bind(window).unwrap()).scored(alibi::bind(slopes).unwrap());
        case.check(&gpu, &format!("length {len}, window {window}"));
    };
    run(300, 64, &[0.5, 0.25]);
    assert_eq!(stats().compiles, 1);
    for (len, window, slopes) in [
        (300, 64, [0.125, 0.25]),
        (300, 65, [0.5, 0.25]),
        (301, 64, [0.5, 0.25]),
        (512, 1, [0.0, 0.25]),
        (1000, 5000, [0.5, -0.25]),
    ] {
        run(len, window, &slopes);
    }
    assert_eq!(stats().compiles, 1, "changed values compiled something");
    // Other mods, dtypes and head dims are other kernels.
    case(300).masked(causal::bind().unwrap()).check(&gpu, "another mod");
    assert_eq!(stats().compiles, 2);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn shifted_masks_of_every_step_share_a_kernel() {
    let (_alone, gpu) = (alone(), gpu());
    start_with(Compiler::new().with_cache_dir(None));
    let base = causal::bind().unwrap();
    for step in 0..20 {
        let mut rng = StdRng::seed_from_u64(step);
        let kv_len = 100 + step as usize;
        let case = Case::random(&mut rng, DType::BF16, [2, 4, 1, 64], [2, 2, kv_len, 64], 64);
        case.masked(base.shift_q(kv_len as i32 - 1)).check(&gpu, &format!("step {step}"));
    }
    assert_eq!(stats().compiles, 1);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_disk_cache_hits_misses_and_survives_damage() {
    let (_alone, gpu) = (alone(), gpu());
    let dir = tempfile::tempdir().unwrap();
    let fresh = || start_with(Compiler::new().with_cache_dir(Some(dir.path().to_owned())));
    let run = || case(200).scored(softcap::bind(20.0).unwrap()).check(&gpu, "softcap");

    fresh();
    run();
    assert_eq!((stats().compiles, stats().disk_hits), (1, 0));
    fresh();
    run();
    assert_eq!((stats().compiles, stats().disk_hits), (0, 1));

    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    fresh();
    run();
    assert_eq!((stats().compiles, stats().disk_hits), (1, 0), "a damaged kernel was loaded");
    fresh();
    run();
    assert_eq!((stats().compiles, stats().disk_hits), (0, 1), "the damaged kernel was not replaced");

    start_with(Compiler::new().with_cache_dir(Some("/proc/no/such/place".into())));
    run();
    assert_eq!(stats().compiles, 1, "a folder that cannot be written costs a compilation and no more");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_bundle_runs_without_the_compiler() {
    let (_alone, gpu) = (alone(), gpu());
    let dir = tempfile::tempdir().unwrap();
    // What a program compiled ahead of time: the kernels of these calls, and nothing else.
    start_with(Compiler::new().with_cache_dir(None));
    let doc: Vec<i32> = (0..200).map(|i| i / 31).collect();
    let documents = || case(200).masked(document::bind(&doc).unwrap());
    documents().check(&gpu, "compiled");
    let mut bundle = Bundle::new();
    for (describe, kernel) in cuda::compiler().kernels() {
        bundle.insert(describe, kernel);
    }
    bundle.write(dir.path()).unwrap();

    let bundle = Bundle::read(dir.path()).unwrap();
    start_with(Compiler::new().with_cache_dir(None).with_bundle(bundle, true));
    documents().check(&gpu, "from the bundle");
    assert_eq!((stats().compiles, stats().bundle_hits), (0, 1));
    let missing = case(200).scored(score_mod!(|score, b, h, q, kv| score * 3.0)).on_gpu(&gpu).unwrap_err();
    assert!(matches!(missing, Error::Cuda(CudaError::Codegen(_))), "{missing:?}");
    assert!(missing.to_string().contains("bundle"), "{missing}");
    start_with(Compiler::new());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn threads_that_want_the_same_kernel_compile_it_once() {
    let (_alone, gpu) = (alone(), gpu());
    start_with(Compiler::new().with_cache_dir(None));
    let factor: f32 = StdRng::from_os_rng().random();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let case = case(150).scored(score_mod!(|score, b, h, q, kv| score * factor));
                case.check(&gpu, "in a thread");
            });
        }
    });
    assert_eq!(stats().compiles, 1);
}

/// The host's time of a call that was made before, the GPU being busy or not.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_steady_call_takes_at_most_10_microseconds_of_the_host() {
    let (_alone, gpu) = (alone(), gpu());
    let device = CudaDevice::new(0).unwrap();
    let slopes = [0.5f32, 0.25];
    let (mask, score) = (sliding_window::bind(64).unwrap(), alibi::bind(&slopes).unwrap());
    let case = case(128);
    let block_mask = create_block_mask(&mask, case.extent()).unwrap();
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let mut out = Tensor::zeros(DType::BF16, case.out_shape()).unwrap().to(&gpu).unwrap();
    let call = || flex_attention(&q, &k, &v).score_mod(&score).block_mask(&block_mask);
    let compiles = {
        call().run_into(&mut out).unwrap();
        stats().compiles
    };
    // In batches, so that the queue of the stream, which blocks the host when it is full, never fills.
    let median = |run: &mut dyn FnMut()| {
        let mut times: Vec<Duration> = (0..50)
            .map(|_| {
                device.stream().unwrap().synchronize().unwrap();
                let start = Instant::now();
                (0..100).for_each(|_| run());
                start.elapsed() / 100
            })
            .collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let into = median(&mut || call().run_into(&mut out).unwrap());
    let new = median(&mut || drop(call().run().unwrap()));
    println!(
        "host time of a steady call: {into:.2} µs into memory that is there, {new:.2} µs into a new tensor"
    );
    assert_eq!(stats().compiles, compiles, "a steady call compiled something");
    if cfg!(not(debug_assertions)) {
        assert!(into <= 10.0 && new <= 10.0, "over 10 µs");
    }
}
