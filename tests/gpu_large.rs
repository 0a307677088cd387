//! Tensors of 10 GiB each on a GPU, 40 GiB in all: addresses over 32 bits, and lengths over 100 000.
#![cfg(feature = "cuda")]

use flex_attention::cuda::CudaDevice;
use flex_attention::library::sliding_window;
use flex_attention::prelude::*;
use half::bf16;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const BATCH: usize = 2;
const HEADS: usize = 160;
const LEN: usize = 131_072;
const HEAD_DIM: usize = 128;
const WINDOW: usize = 100;

/// A block of numbers repeated, its length odd, so that an address that wraps around finds others.
fn fill(rng: &mut StdRng) -> Vec<bf16> {
    let block: Vec<bf16> = (0..10_000_019).map(|_| bf16::from_f32(rng.random::<f32>() * 4.0 - 2.0)).collect();
    let count = BATCH * HEADS * LEN * HEAD_DIM;
    let mut elements = Vec::with_capacity(count);
    while elements.len() < count {
        elements.extend_from_slice(&block[..block.len().min(count - elements.len())]);
    }
    elements
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn forty_gibibytes() {
    let device = CudaDevice::new(0).unwrap();
    let tensor_bytes = BATCH * HEADS * LEN * HEAD_DIM * 2;
    assert_eq!(tensor_bytes * 4, 40 << 30);
    let free = device.free_memory().unwrap();
    if free < tensor_bytes * 4 + (1 << 30) {
        println!("SKIPPED: 41 GiB of device memory are needed, {} GiB are free", free >> 30);
        return;
    }
    if let Some(available) = host_memory().filter(|&bytes| bytes < tensor_bytes * 4) {
        println!("SKIPPED: 40 GiB of host memory are needed, {} GiB are available", available >> 30);
        return;
    }
    let gpu = Device::Cuda(device);
    let mut rng = StdRng::seed_from_u64(40);
    let shape = [BATCH, HEADS, LEN, HEAD_DIM];
    let host = [(); 3].map(|()| Tensor::from_vec(fill(&mut rng), shape).unwrap());
    let [q, k, v] = host.each_ref().map(|tensor| tensor.to(&gpu).unwrap());
    let mask = sliding_window::bind(WINDOW as i32).unwrap();
    let extent = Extent { batch: BATCH, heads: HEADS, q_len: LEN, kv_len: LEN };
    let block_mask = create_block_mask(&mask, extent).unwrap();
    let out = flex_attention(&q, &k, &v).block_mask(&block_mask).run().unwrap();

    let ends = [(0, 0, 0), (0, HEADS - 1, LEN - 1), (BATCH - 1, 0, 0), (BATCH - 1, HEADS - 1, LEN - 1)];
    let mut random = || (rng.random_range(0..BATCH), rng.random_range(0..HEADS), rng.random_range(0..LEN));
    let places: Vec<_> = ends.into_iter().chain((0..200).map(|_| random())).collect();
    for (b, h, row) in places {
        let part = |tensor: &Tensor, start: usize, len: usize| {
            let head = tensor.narrow(0, b, 1).unwrap().narrow(1, h, 1).unwrap();
            head.narrow(2, start, len).unwrap().to_f32_vec().unwrap()
        };
        let first = row.saturating_sub(WINDOW);
        let keys = row + 1 - first;
        let query = part(&host[0], row, 1);
        let (key, value) = (part(&host[1], first, keys), part(&host[2], first, keys));
        let scores: Vec<f64> = key
            .chunks(HEAD_DIM)
            .map(|key| {
                key.iter().zip(&query).map(|(k, q)| f64::from(k * q)).sum::<f64>() / (HEAD_DIM as f64).sqrt()
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
        let got = part(&out, row, 1);
        let (mut error, mut norm) = (0.0, 0.0);
        for (d, got) in got.iter().enumerate() {
            let weighted =
                scores.iter().enumerate().map(|(i, s)| (s - max).exp() * f64::from(value[i * HEAD_DIM + d]));
            let expected = weighted.sum::<f64>() / sum;
            error += (f64::from(*got) - expected).powi(2);
            norm += expected.powi(2);
        }
        let relative = (error / norm).sqrt();
        assert!(relative < 1e-2, "row {row} of head {h} in batch {b} has relative error {relative:.1e}");
    }
}

/// The bytes of host memory that are available, where the system says.
fn host_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
}
