//! FlexAttention for Rust.

extern crate self as flex_attention;

pub mod library;
pub mod prelude;

#[doc(hidden)]
#[path = "macro_support/mod.rs"]
pub mod __private;

pub use flex_core::capture::{IntoArray, IntoScalar, View, ViewError};
pub use flex_core::mods::{BindError, MaskMod, ScoreMod};

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
