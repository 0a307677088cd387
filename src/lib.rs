//! FlexAttention for Rust.
//!
//! A mask or a score change is an ordinary Rust function; it becomes part of a fused attention that skips the tiles
//! the mask rules out, with one meaning on the CPU and the GPU and no N×N matrix anywhere.
//!
//! Start with [`flex_attention()`] and [`create_block_mask`](prelude::create_block_mask); [`mask`] has all that block masks
//! can do, [`tensor`] our tensors and borrowed ones, and [`library`] mods that are written already.

// The macros expand to paths from this crate's root, inside this crate too.
extern crate self as flex_attention;

mod attention;
#[cfg(feature = "cuda")]
pub mod cuda;
mod device;
mod error;
pub mod library;
pub mod tensor;

// Called by the code that the macros make.
#[doc(hidden)]
#[path = "macro_support/mod.rs"]
pub mod __private;

pub use __private::{CapturedArgument, CapturedScalar, CapturedView, ConstantValue, MarkedWithModFn};
pub use attention::{Aux, FlexAttention, Output, flex_attention};
pub use device::Device;
pub use error::Error;
pub use flex_core::attention::AttentionError;
pub use flex_core::capture::{CaptureElement, IntoArray, IntoScalar, View, ViewError};
#[doc(inline)]
pub use flex_core::mask;
pub use flex_core::mods::{BindError, FaultReason, MaskMod, ModFault, ScoreMod};

/// A mask mod from a closure, whose value is the bound mask.
///
/// ```
/// use flex_attention::mask_mod;
///
/// let window = 1024;
/// let doc = vec![0, 0, 1, 1];
/// let mask = mask_mod!(|b, h, q, kv| doc[q] == doc[kv] && q - kv <= window);
/// ```
///
/// Free names are captured: indexed ones as arrays (`&[T]`, `Vec<T>`, `[T; N]`, [`View`]), the others as scalars, all of
/// f32, i32, u32 or bool. Names in capitals are constants.
///
/// The attribute `#[mask_mod]` for functions has the same name and comes with the [`prelude`]; both can be imported in
/// one place, `use flex_attention::{mask_mod, prelude::*};`.
pub use flex_macros::mask_mod_closure as mask_mod;
/// A score mod from a closure, whose value is the bound score mod.
///
/// ```
/// use flex_attention::score_mod;
///
/// let slopes = [0.5f32, 0.25];
/// let alibi = score_mod!(|score, b, h, q, kv| score + slopes[h] * (kv - q) as f32);
/// ```
///
/// Captures and imports are those of [`mask_mod!`](crate::mask_mod!).
pub use flex_macros::score_mod_closure as score_mod;

/// What most programs need: `use flex_attention::prelude::*;`.
///
/// The attributes `#[mask_mod]`, `#[score_mod]` and `#[mod_fn]` are here. The closures `mask_mod!` and `score_mod!` are
/// in the root, because one glob cannot bring two macros of one name:
///
/// ```
/// use flex_attention::{mask_mod, prelude::*};
///
/// #[mask_mod]
/// fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
///     doc[q] == doc[kv]
/// }
///
/// let mask = document::bind(&[0, 0, 1])? & mask_mod!(|b, h, q, kv| q >= kv);
/// # Ok::<(), BindError>(())
/// ```
pub mod prelude {
    pub use crate::Device;
    pub use crate::attention::{Aux, Output, flex_attention};
    pub use crate::tensor::Tensor;
    pub use flex_core::attention::DType;
    pub use flex_core::capture::{View, ViewError};
    pub use flex_core::mask::{BlockMask, BlockMaskOptions, BlockSize, Extent, create_block_mask};
    pub use flex_core::mods::{BindError, MaskMod, ScoreMod};
    pub use flex_macros::{mask_mod, mod_fn, score_mod};
}

// The programs in README.md and docs/mods.md run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("../docs/mods.md")]
struct WritingMods;
