//! Masks of bounded distance.

use crate::prelude::*;

/// A query sees itself and the `window` keys before it.
///
/// ```
/// let mask = flex_attention::library::sliding_window::bind(1024)?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[mask_mod]
pub fn sliding_window(b: i32, h: i32, q: i32, kv: i32, window: i32) -> bool {
    q >= kv && q - kv <= window
}

/// A query sees every `dilation`-th key up to a distance of `window` on both sides. The dilation is at least 1.
#[mask_mod]
pub fn dilated_window(b: i32, h: i32, q: i32, kv: i32, window: i32, dilation: i32) -> bool {
    let distance = (q - kv).abs();
    distance <= window && distance % dilation == 0
}

/// Longformer's mask: a window on both sides, and `global` positions at the start that see all and are seen by all.
#[mask_mod]
pub fn global_sliding(b: i32, h: i32, q: i32, kv: i32, window: i32, global: i32) -> bool {
    (q - kv).abs() <= window || q < global || kv < global
}
