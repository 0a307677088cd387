//! How fast decoding reads keys and values, beside the fastest of several loops that only read them.

use std::fmt;
use std::time::Instant;

use flex_attention::Error;
use flex_attention::prelude::*;
use flex_attention::tensor::TensorArg;
use flex_core::attention::Elements;
use flex_core::cpu::{CpuOptions, ReadLoop};
use serde::Serialize;

use crate::timing::{least, median};

/// The calls and the read loops have their turn this many times: all meet the same weather.
const ROUNDS: usize = 15;

/// Medians of one run, over the same memory.
#[derive(Debug, Serialize)]
pub(super) struct Reading {
    /// The keys and values of so many layers are visited in turns, as a decoder does.
    layers: usize,
    /// All of them, in GB: what the caches would have to hold.
    gigabytes: f64,
    /// Keys and values over the time of a call, in GB/s.
    gb_per_s: f64,
    /// What the fastest loop that only reads them reaches.
    read_loop_gb_per_s: f64,
    /// Which one that was, of how many.
    read_loop: String,
    read_loops: usize,
    /// The one over the other.
    fraction: f64,
    /// The same of the shortest call and the shortest turn of any loop, which a busy machine changes less.
    fraction_of_shortest: f64,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, gigabytes, gb_per_s, read_loop_gb_per_s, read_loop, read_loops, .. } = self;
        let Self { fraction, fraction_of_shortest, .. } = self;
        write!(
            f,
            "Keys and values ({gigabytes:.2} GB, layers: {layers}) are read at {gb_per_s:.1} GB/s: {fraction:.2} of the \
             {read_loop_gb_per_s:.1} GB/s of the fastest of {read_loops} loops that only read them ({read_loop}); \
             {fraction_of_shortest:.2} by the shortest times."
        )
    }
}

/// The median time of a call in milliseconds, and what that means for reading keys and values, which are contiguous and on
/// the host. A round calls attention with those of every layer in turn; so what a call reads has left the caches where
/// all layers together are larger.
pub(super) fn measure(
    options: &CpuOptions,
    layers: &[[Tensor; 2]],
    mut call: impl FnMut(&[Tensor; 2]) -> Result<(), Error>,
) -> Result<(f64, Reading), Error> {
    let memory: Vec<&[u8]> = layers.iter().flatten().map(bytes).collect();
    let loops: Vec<ReadLoop> = ReadLoop::all().collect();
    let mut of_rounds = Vec::with_capacity(ROUNDS);
    let mut of_loops = vec![Vec::with_capacity(ROUNDS); loops.len()];
    layers.iter().try_for_each(&mut call)?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        layers.iter().try_for_each(&mut call)?;
        of_rounds.push(start.elapsed().as_secs_f64() * 1e3);
        for (times, read) in of_loops.iter_mut().zip(&loops) {
            let start = Instant::now();
            read.run(options, &memory);
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let fraction_of_shortest = least(&of_loops.concat()) / least(&of_rounds);
    let ms = median(&mut of_rounds);
    let medians = of_loops.iter_mut().map(|times| median(times)).zip(&loops);
    let (loop_ms, fastest) = medians.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are loops");
    let gigabytes = memory.iter().map(|memory| memory.len()).sum::<usize>() as f64 / 1e9;
    let reading = Reading {
        layers: layers.len(),
        gigabytes,
        gb_per_s: gigabytes / ms * 1e3,
        read_loop_gb_per_s: gigabytes / loop_ms * 1e3,
        read_loop: fastest.to_string(),
        read_loops: loops.len(),
        fraction: loop_ms / ms,
        fraction_of_shortest,
    };
    Ok((ms / layers.len() as f64, reading))
}

/// The elements of a tensor on the host.
fn bytes(tensor: &Tensor) -> &[u8] {
    let TensorArg::Host(tensor) = tensor.into() else { return &[] };
    match tensor.elements() {
        Elements::F32(x) => bytemuck::must_cast_slice(x),
        Elements::F16(x) => bytemuck::must_cast_slice(x),
        Elements::BF16(x) => bytemuck::must_cast_slice(x),
    }
}
