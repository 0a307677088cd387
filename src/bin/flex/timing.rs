//! Medians of wall-clock times.

use std::time::{Duration, Instant};

/// The time of one call in milliseconds: the median of repeated calls after one that is not counted. Repeats for about
/// half a second, at least five times, so that one interruption does not decide.
pub(crate) fn median_ms<E>(mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    const ENOUGH: Duration = Duration::from_millis(500);
    call()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (start.elapsed() < ENOUGH && times.len() < 1000) {
        let before = Instant::now();
        call()?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
