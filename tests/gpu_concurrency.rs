//! Several threads and several streams on one GPU, and several GPUs where there are some.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::cuda::{CudaDevice, CudaOptions, CudaStream};
use flex_attention::library::{alibi, causal, document};
use flex_attention::prelude::*;
use flex_core::testing;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, Computed, gpu};

/// Different mods, captures and dtypes.
fn cases(seed: u64) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut case = |dtype| Case::random(&mut rng, dtype, [1, 4, 300, 64], [1, 2, 300, 64], 64);
    let doc: Vec<i32> = (0..300).map(|i| i / 47 + seed as i32).collect();
    vec![
        case(DType::BF16).masked(causal::bind().unwrap()),
        case(DType::F32).masked(document::bind(&doc).unwrap()),
        case(DType::F16).scored(alibi::bind(&[0.5, 0.25, 0.125, 0.0625]).unwrap()),
        case(DType::BF16),
    ]
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn threads_do_not_disturb_each_other() {
    let gpu = gpu();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let cases = cases(thread);
                let expected: Vec<Computed> = cases.iter().map(|case| case.on_gpu(&gpu).unwrap()).collect();
                for (case, computed) in cases.iter().zip(&expected) {
                    computed.check_against(&case.reference(), case.query.dtype(), "in a thread");
                }
                for _ in 0..testing::cases(20) {
                    for (case, expected) in cases.iter().zip(&expected) {
                        assert_eq!(&case.on_gpu(&gpu).unwrap(), expected, "bit-identical in every run");
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn streams_wait_for_each_other_where_tensors_pass_between_them() {
    let gpu = gpu();
    let device = CudaDevice::new(0).unwrap();
    let streams = [CudaStream::new(device).unwrap(), CudaStream::new(device).unwrap()];
    let mut rng = StdRng::seed_from_u64(3);
    // Long enough that an unordered second call would read what the first has not written.
    let len = if testing::cases(100) < 100 { 512 } else { 2048 };
    let case = Case::random(&mut rng, DType::BF16, [2, 8, len, 64], [2, 8, len, 64], 64);
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let attend =
        |query: &Tensor, stream: &CudaStream| flex_attention(query, &k, &v).stream(stream).run().unwrap();
    let chain = |streams: [&CudaStream; 2]| {
        let mut x = q.clone();
        for step in 0..6 {
            // The old x is dropped while its reader is still queued, and its memory may be given to the next output.
            x = attend(&x, streams[step % 2]);
        }
        x.to_f32_vec().unwrap()
    };
    let one_after_the_other = chain([&streams[0], &streams[0]]);
    for _ in 0..testing::cases(10) {
        assert_eq!(chain([&streams[0], &streams[1]]), one_after_the_other);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn two_streams_at_once() {
    let gpu = gpu();
    let device = CudaDevice::new(0).unwrap();
    let cases = cases(11);
    let expected: Vec<Computed> = cases.iter().map(|case| case.on_gpu(&gpu).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let stream = CudaStream::new(device).unwrap();
                let options = CudaOptions { stream: Some(&stream), ..CudaOptions::default() };
                for _ in 0..testing::cases(20) {
                    for (case, expected) in cases.iter().zip(&expected) {
                        assert_eq!(&case.on_gpu_with(&gpu, options).unwrap(), expected);
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn every_gpu_of_the_machine_computes_the_same() {
    let count = CudaDevice::count().unwrap();
    let expected: Vec<Computed> = cases(5).iter().map(|case| case.on_gpu(&gpu()).unwrap()).collect();
    for ordinal in 1..count {
        let other = Device::cuda(ordinal).unwrap();
        for (case, expected) in cases(5).iter().zip(&expected) {
            assert_eq!(&case.on_gpu(&other).unwrap(), expected, "GPU {ordinal}");
        }
    }
    if count == 1 {
        println!("there is one GPU only: several were not tried");
    }
    let missing = Device::cuda(count).unwrap_err().to_string();
    assert!(missing.contains(&format!("no GPU {count}")), "{missing}");
}
