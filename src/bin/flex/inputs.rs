//! Inputs for measurements: the same normal numbers in every run.

use flex_attention::{Error, prelude::*};

/// Standard normal numbers from a seed.
pub(crate) struct Normal {
    state: u64,
    second: Option<f64>,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, second: None }
    }

    /// The next number, by Box and Muller's transform of a pair.
    pub(crate) fn next(&mut self) -> f32 {
        if let Some(second) = self.second.take() {
            return second as f32;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.second = Some(radius * sin);
        (radius * cos) as f32
    }

    /// A number in 0..1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A tensor of standard normal numbers, rounded to `dtype`.
pub(crate) fn normal_tensor(seed: u64, shape: [usize; 4], dtype: DType) -> Result<Tensor, Error> {
    let mut normal = Normal::new(seed);
    let tensor = Tensor::from_fn(shape, |_| normal.next())?;
    if dtype == DType::F32 { Ok(tensor) } else { tensor.to_dtype(dtype) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_standard_normal_and_repeatable() {
        let mut normal = Normal::new(7);
        let x: Vec<f64> = (0..20_000).map(|_| normal.next().into()).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "mean {mean}, variance {variance}");
        let mut again = Normal::new(7);
        assert!(x.iter().take(10).all(|&x| f64::from(again.next()) == x));
    }
}
