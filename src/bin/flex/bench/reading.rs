//! How fast decoding reads keys and values, beside the fastest of several loops that only read them.

use std::convert::Infallible;
use std::fmt;
use std::time::Instant;

use flex_attention::Error;
use flex_attention::prelude::*;
use flex_attention::tensor::TensorArg;
use flex_core::attention::Elements;
use flex_core::cpu::{CpuOptions, ReadLoop};
use serde::Serialize;

/// The calls and the read loops have their turn this many times: all meet the same weather.
const ROUNDS: usize = 15;

/// Medians of one run, over the same memory.
#[derive(Debug, Serialize)]
pub(super) struct Reading {
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
        let Self { gb_per_s, read_loop_gb_per_s, read_loop, read_loops, fraction, fraction_of_shortest } =
            self;
        write!(
            f,
            "Keys and values are read at {gb_per_s:.1} GB/s: {fraction:.2} of the {read_loop_gb_per_s:.1} GB/s of the \
             fastest of {read_loops} loops that only read them ({read_loop}); {fraction_of_shortest:.2} by the shortest times."
        )
    }
}

/// The median time of a call in milliseconds, and what that means for reading `tensors`, which are contiguous and on the
/// host.
pub(super) fn measure(
    options: &CpuOptions,
    tensors: [&Tensor; 2],
    mut call: impl FnMut() -> Result<(), Error>,
) -> Result<(f64, Reading), Error> {
    let memory = tensors.map(bytes);
    let loops: Vec<ReadLoop> = ReadLoop::all().collect();
    let mut of_calls = Vec::with_capacity(ROUNDS);
    let mut of_loops = vec![Vec::with_capacity(ROUNDS); loops.len()];
    call()?;
    for _ in 0..ROUNDS {
        of_calls.push(milliseconds(&mut call)?);
        for (times, read) in of_loops.iter_mut().zip(&loops) {
            let read = || Ok::<_, Infallible>(read.run(options, &memory));
            times.push(milliseconds(read).unwrap_or_else(|never| match never {}));
        }
    }
    let shortest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let fraction_of_shortest = shortest(&of_loops.concat()) / shortest(&of_calls);
    let ms = median(of_calls);
    let of_loops = of_loops.into_iter().map(median).zip(loops);
    let (loop_ms, fastest) = of_loops.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are loops");
    let gigabytes = memory.iter().map(|memory| memory.len()).sum::<usize>() as f64 / 1e9;
    let reading = Reading {
        gb_per_s: gigabytes / ms * 1e3,
        read_loop_gb_per_s: gigabytes / loop_ms * 1e3,
        read_loop: fastest.to_string(),
        read_loops: ReadLoop::all().count(),
        fraction: loop_ms / ms,
        fraction_of_shortest,
    };
    Ok((ms, reading))
}

fn milliseconds<E>(mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    call()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
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
