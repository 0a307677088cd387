//! What stays on a GPU between calls. Alone in its program: it compares amounts of free memory.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::cuda::CudaDevice;
use flex_attention::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, gpu};

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn memory_of_dropped_mods_and_tensors_is_given_back() {
    let gpu = gpu();
    let device = CudaDevice::new(0).unwrap();
    let call = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let case = Case::random(&mut rng, DType::BF16, [1, 1, 64, 64], [1, 1, 64, 64], 64);
        let bias = vec![0.25f32; 16 << 20];
        case.scored(flex_attention::score_mod!(|score, b, h, q, kv| score + bias[q + kv]))
            .on_gpu(&gpu)
            .unwrap();
    };
    call(0);
    device.trim().unwrap();
    let before = device.free_memory().unwrap();
    for seed in 1..10 {
        call(seed);
    }
    // 64 MiB a capture: all but the last must be gone, the last with the mods that follow or a trim.
    let kept = before.saturating_sub(device.free_memory().unwrap());
    assert!(kept < 200 << 20, "{} MiB are kept", kept >> 20);
    device.trim().unwrap();
    let kept = before.saturating_sub(device.free_memory().unwrap());
    assert!(kept < 16 << 20, "{} MiB are kept after a trim", kept >> 20);
}
