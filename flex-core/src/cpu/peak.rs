//! What the micro-kernels reach on this machine, to compare attention with.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::CpuOptions;
use super::kernel::{Kernels, MAX_STRIPS, Multiplier, Precision, QueryRows, TILE_KEYS};
use super::schedule;
use super::workspace::Buffer;
use crate::attention::DType;
use crate::isa::{Available, InstructionSet};

/// How long each thread multiplies.
const DURATION: Duration = Duration::from_millis(60);

/// The rate in GFLOP/s, all threads together, of the product of query and key alone, over packed operands that stay in
/// the nearest cache: what attention on inputs of this dtype could reach if packing, softmax and masks cost nothing.
/// Products of the planes of a number count as one.
///
/// Takes about a tenth of a second. The best of several stretches counts, so that a busy machine changes little.
pub fn peak_gflops(options: &CpuOptions, dtype: DType) -> f64 {
    let isa = Available::new(options.instruction_set.unwrap_or_else(InstructionSet::current));
    let kernels = Kernels::new(isa, dtype);
    let threads = options.threads.unwrap_or_else(rayon::current_num_threads);
    let rates = Mutex::new(0.0);
    schedule::run(options.threads, threads, |_| {
        let rate = measure(kernels);
        *rates.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += rate;
    });
    rates.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn measure(kernels: &'static Kernels) -> f64 {
    const HEAD_DIM: usize = 64;
    const ROWS: usize = 32;
    const CALLS: usize = 50;
    let units = kernels.packing.units(HEAD_DIM);
    let [mut query, mut key, mut scores] = [const { Buffer::new() }; 3];
    let (query, key) = (query.take(ROWS * units), key.take(TILE_KEYS * units));
    fill(query, 1);
    fill(key, 2);
    let scores = scores.take(ROWS * TILE_KEYS);
    let multiplier = Multiplier::new(kernels, Precision::Weights);
    const KEYS: usize = TILE_KEYS / 2;
    let lanes = [const { 0..KEYS }; MAX_STRIPS];
    let flops = (2 * HEAD_DIM * ROWS * KEYS * CALLS) as f64;
    let (start, mut best) = (Instant::now(), 0.0f64);
    while start.elapsed() < DURATION {
        let stretch = Instant::now();
        for _ in 0..CALLS {
            multiplier.scores(
                QueryRows::Packed(query),
                key,
                units,
                0,
                &lanes[..ROWS / kernels.strip],
                scores,
            );
            std::hint::black_box(&*scores);
        }
        best = best.max(flops / stretch.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Numbers between ½ and 1, as f32 and as pairs of bf16: a CPU multiplies zeros faster than it can afford with others.
fn fill(units: &mut [f32], mut seed: u32) {
    for unit in units {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *unit = f32::from_bits(0x3f00_3f00 | seed >> 9 & 0x007f_007f);
    }
}
