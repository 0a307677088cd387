//! How long the first call of a process takes: with NVRTC, and with a kernel on disk.
#![cfg(feature = "cuda")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use flex_attention::cuda::{self, CudaDevice};
use flex_attention::library::{alibi, causal};
use flex_attention::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::Case;

/// Set in the processes that are measured.
const CHILD: &str = "FLEX_TEST_FIRST_CALL";

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn cold_and_warm_first_calls() {
    if std::env::var_os(CHILD).is_some() {
        return first_call();
    }
    let measure = |cache: &Path, compiles: u64| {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cold_and_warm_first_calls", "--include-ignored", "--nocapture"])
            .env(CHILD, "1")
            .env("FLEX_CACHE_DIR", cache)
            // NVRTC has a cache of its own, which it finds through the driver.
            .env("CUDA_CACHE_DISABLE", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
        let line = text.lines().find_map(|line| line.split_once("measured ")).expect("a measured line").1;
        let mut numbers = line.split_whitespace().map(|word| word.parse::<f64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (context_ms, call_ms, second_ms, compiled) = (next(), next(), next(), next());
        assert_eq!(compiled, compiles as f64);
        (context_ms, call_ms, second_ms)
    };
    let cache = tempfile::tempdir().unwrap();
    let (context_ms, cold_ms, second_ms) = measure(cache.path(), 1);
    println!("cold: context {context_ms:.0} ms, first call {cold_ms:.0} ms, second {second_ms:.3} ms");
    let (context_ms, warm_ms, second_ms) = measure(cache.path(), 0);
    println!("warm: context {context_ms:.0} ms, first call {warm_ms:.1} ms, second {second_ms:.3} ms");
    if cfg!(not(debug_assertions)) {
        assert!(cold_ms <= 1500.0, "a cold first call takes {cold_ms:.0} ms, expected at most 1500");
        assert!(warm_ms <= 30.0, "a warm first call takes {warm_ms:.1} ms, expected at most 30");
    }
}

fn first_call() {
    let mut rng = StdRng::seed_from_u64(1);
    let case = Case::random(&mut rng, DType::BF16, [1, 4, 512, 128], [1, 4, 512, 128], 128);
    let (mask, score) = (causal::bind().unwrap(), alibi::bind(&[0.5, 0.25, 0.125, 0.0625]).unwrap());
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;

    let start = Instant::now();
    let device = CudaDevice::new(0).unwrap();
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|t| t.to(&Device::Cuda(device)).unwrap());
    let context_ms = ms(start);
    let call = || {
        let start = Instant::now();
        let block_mask = create_block_mask(&mask, case.extent()).unwrap();
        let out = flex_attention(&q, &k, &v).score_mod(&score).block_mask(&block_mask).run().unwrap();
        device.stream().unwrap().synchronize().unwrap();
        drop(out);
        ms(start)
    };
    let (first_ms, second_ms) = (call(), call());
    println!("measured {context_ms} {first_ms} {second_ms} {}", cuda::compiler().stats().compiles);
}
