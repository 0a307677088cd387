//! What several tests share.
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

#[cfg(feature = "cuda")]
pub mod eager;
pub mod golden;
#[path = "../golden_mods/mod.rs"]
pub mod golden_mods;
#[cfg(feature = "cuda")]
pub mod gpu;

/// ‖got − expected‖ / ‖expected‖; the norm of `got` where `expected` is 0. NaN where either has one.
pub fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let (mut error, mut norm) = (0f64, 0f64);
    for (&got, &expected) in got.iter().zip(expected) {
        error += (f64::from(got) - f64::from(expected)).powi(2);
        norm += f64::from(expected).powi(2);
    }
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}
