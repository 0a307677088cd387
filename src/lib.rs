//! FlexAttention for Rust.
//!
//! A mask or a score change is an ordinary Rust function; it becomes part of a fused attention that skips the tiles
//! the mask rules out, with one meaning on the CPU and the GPU and no N×N matrix anywhere.
//!
//! Start with [`flex_attention`] and [`create_block_mask`](prelude::create_block_mask).

// The macros expand to paths from this crate's root, inside this crate too.
extern crate self as flex_attention;

mod attention;
#[cfg(feature = "cuda")]
pub mod cuda;
mod device;
mod error;
pub mod tensor;

pub use attention::{Aux, FlexAttention, Output, flex_attention};
pub use device::Device;
pub use error::Error;

/// What most programs need.
pub mod prelude {
    pub use crate::attention::{Aux, Output, flex_attention};
    pub use crate::Device;
    pub use crate::tensor::Tensor;
    pub use flex_core::attention::DType;
    pub use flex_core::capture::View;
    pub use flex_core::mask::{BlockMask, BlockSize, Extent, create_block_mask};
    pub use flex_core::mods::{MaskMod, ScoreMod};
}
