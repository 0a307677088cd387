//! The size of an attention problem and of its tiles.

use serde::{Deserialize, Serialize};

/// The size of an attention matrix: `[batch, heads, q_len, kv_len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The number of sequences.
    pub batch: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of queries a sequence.
    pub q_len: usize,
    /// The number of keys a sequence.
    pub kv_len: usize,
}

/// Why an extent or a block size cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// A dimension is zero.
    #[error("{dimension} is 0, expected at least 1")]
    Zero {
        /// The dimension.
        dimension: &'static str,
    },
    /// A dimension, or the number of rows, is larger than an i32 index reaches.
    #[error("{dimension} is {got}, expected at most {max}", max = i32::MAX)]
    TooLarge {
        /// The dimension.
        dimension: &'static str,
        /// Its value; saturated where it overflows.
        got: usize,
    },
}

impl Extent {
    /// Checks that every dimension is between 1 and `i32::MAX`, and batch · heads · q_len too is countable.
    ///
    /// # Errors
    /// The first dimension that is not.
    pub fn validate(&self) -> Result<(), ExtentError> {
        let dims =
            [("batch", self.batch), ("heads", self.heads), ("q_len", self.q_len), ("kv_len", self.kv_len)];
        for (dimension, got) in dims {
            check(dimension, got)?;
        }
        check("batch * heads", self.batch.saturating_mul(self.heads))
    }
}

/// The size of a tile in queries and keys. From one number (square) or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockSize {
    /// Queries a tile.
    pub q: usize,
    /// Keys a tile.
    pub kv: usize,
}

impl BlockSize {
    /// Checks that both sides are between 1 and `i32::MAX`.
    ///
    /// # Errors
    /// The first side that is not.
    pub fn validate(&self) -> Result<(), ExtentError> {
        check("block size in q", self.q)?;
        check("block size in kv", self.kv)
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self { q: 128, kv: 128 }
    }
}

impl From<usize> for BlockSize {
    fn from(side: usize) -> Self {
        Self { q: side, kv: side }
    }
}

impl From<(usize, usize)> for BlockSize {
    fn from((q, kv): (usize, usize)) -> Self {
        Self { q, kv }
    }
}

fn check(dimension: &'static str, got: usize) -> Result<(), ExtentError> {
    match got {
        0 => Err(ExtentError::Zero { dimension }),
        1..=0x7fff_ffff => Ok(()),
        _ => Err(ExtentError::TooLarge { dimension, got }),
    }
}
