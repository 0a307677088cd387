//! Medians of wall-clock times.

use std::time::{Duration, Instant};

/// The time of one call in milliseconds: the median of [`repeated`] calls.
pub(crate) fn median_ms<E>(call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    repeated(call).map(|repeated| repeated.median_ms)
}

/// Calls that were measured.
pub(crate) struct Repeated {
    pub(crate) median_ms: f64,
    pub(crate) least_ms: f64,
    /// How many calls.
    pub(crate) calls: usize,
}

/// Measures repeated calls after one that is not counted. Repeats for about half a second, at least five times, so that
/// one interruption does not decide.
pub(crate) fn repeated<E>(mut call: impl FnMut() -> Result<(), E>) -> Result<Repeated, E> {
    const ENOUGH: Duration = Duration::from_millis(500);
    call()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (start.elapsed() < ENOUGH && times.len() < 1000) {
        let before = Instant::now();
        call()?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Repeated { median_ms: median(&mut times), least_ms: least(&times), calls: times.len() })
}

/// The median of some times, which are sorted. There is at least one.
pub(crate) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The shortest of some times.
pub(crate) fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
