//! Scores that fall with the distance.

use crate::prelude::*;

/// ALiBi: a bias that falls linearly with the distance, with a slope for every head (see [`alibi_slopes`]).
///
/// ```
/// use flex_attention::library::{alibi, alibi_slopes};
///
/// let score_mod = alibi::bind(&alibi_slopes(8))?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[score_mod]
pub fn alibi(score: f32, b: i32, h: i32, q: i32, kv: i32, slopes: View<f32, 1>) -> f32 {
    score + slopes[h] * (kv - q) as f32
}

/// The slopes of ALiBi: for a power of two, 2^(-8/heads), 2^(-16/heads), ...; for other numbers of heads, those of the
/// power of two below, then every second one of the power of two above.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let geometric = |n: usize| (1..=n).map(move |i| (-8.0 * i as f64 / n as f64).exp2() as f32);
    if heads == 0 {
        return Vec::new();
    }
    let below = 1usize << heads.ilog2();
    geometric(below).chain(geometric(2 * below).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::alibi_slopes;

    #[test]
    fn slopes_of_a_power_of_two_are_geometric() {
        assert_eq!(alibi_slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
    }

    #[test]
    fn other_numbers_of_heads_interleave() {
        let slopes = alibi_slopes(6);
        assert_eq!(slopes[..4], alibi_slopes(4)[..]);
        assert_eq!(slopes[4..], [alibi_slopes(8)[0], alibi_slopes(8)[2]]);
        assert!(alibi_slopes(0).is_empty());
    }
}
