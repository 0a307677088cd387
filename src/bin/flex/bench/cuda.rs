//! Times on a GPU, by its own clock.

use flex_attention::Error;
use flex_attention::cuda::timing::{CacheFlush, CudaEvent};
use flex_attention::cuda::{CudaDevice, CudaOptions, Force, Template};

use super::GpuKernel;

/// What is spent on the repetitions of one case: as `triton.testing.do_bench` does with peers. Large cards draw all the power
/// they may within a fifth of a second of attention, and slow down: longer runs give lower figures.
const BUDGET_MS: f32 = 100.0;

/// What a call is told so that it takes the kernel, or fails where the device or the tensors are none for it.
pub(super) fn options(kernel: Option<GpuKernel>) -> CudaOptions<'static> {
    let template = kernel.map(|kernel| match kernel {
        GpuKernel::Portable => Template::ForwardPortable,
        GpuKernel::Sm90 => Template::ForwardSm90,
    });
    CudaOptions { force: Force { template, ..Force::default() }, ..CudaOptions::default() }
}

/// The time of one call in milliseconds: the median of repeated calls, the L2 cache overwritten before each, after calls
/// that are not counted. The call queues its work on the default stream of the GPU.
pub(super) fn median_ms(gpu: CudaDevice, mut call: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let stream = gpu.stream()?;
    let flush = CacheFlush::new(stream)?;
    let mut timed = |repetitions: usize| -> Result<Vec<f32>, Error> {
        let mut events = Vec::with_capacity(repetitions);
        for _ in 0..repetitions {
            flush.run()?;
            let start = CudaEvent::record(stream)?;
            call()?;
            events.push((start, CudaEvent::record(stream)?));
        }
        Ok(events.iter().map(|(start, end)| end.milliseconds_since(start)).collect::<Result<_, _>>()?)
    };
    let warm = timed(5)?;
    let estimate = warm[1..].iter().copied().fold(f32::INFINITY, f32::min).max(1e-3);
    let mut times = timed(((BUDGET_MS / estimate) as usize).clamp(10, 1000))?;
    times.sort_by(f32::total_cmp);
    Ok(times[times.len() / 2].into())
}
