//! What most programs need: `use flex_attention::prelude::*;`.
//!
//! The attributes `#[mask_mod]`, `#[score_mod]` and `#[mod_fn]` are here. The closures `mask_mod!` and `score_mod!` are
//! in the root, because one glob cannot bring two macros of one name:
//!
//! ```
//! use flex_attention::{mask_mod, prelude::*};
//!
//! #[mask_mod]
//! fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
//!     doc[q] == doc[kv]
//! }
//!
//! let mask = document::bind(&[0, 0, 1])? & mask_mod!(|b, h, q, kv| q >= kv);
//! # Ok::<(), BindError>(())
//! ```

pub use crate::{BindError, MaskMod, ScoreMod, View, ViewError};
pub use flex_macros::{mask_mod, mod_fn, score_mod};
