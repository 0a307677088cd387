//! Ready-made mods, written with the public macros: use them, combine them, or copy them as a start for your own.
//!
//! Masks: [`causal`](fn@causal), [`sliding_window`](fn@sliding_window), [`dilated_window`](fn@dilated_window),
//! [`global_sliding`](fn@global_sliding), [`prefix_lm`](fn@prefix_lm), [`shared_prefix`](fn@shared_prefix),
//! [`document`](fn@document), [`document_causal`](fn@document_causal), [`document_per_batch`](fn@document_per_batch),
//! [`padding`](fn@padding), [`natten`](fn@natten), [`sliding_tiles`](fn@sliding_tiles),
//! [`permuted_tiles`](fn@permuted_tiles), [`xor_tiles`](fn@xor_tiles), [`block_diffusion`](fn@block_diffusion), [`tree`](fn@tree),
//! [`tree_intervals`](fn@tree_intervals).
//!
//! Scores: [`alibi`](fn@alibi), [`softcap`](fn@softcap), [`t5_bias`](fn@t5_bias), [`relative_bias`](fn@relative_bias),
//! [`key_bias`](fn@key_bias), [`bias_qk`](fn@bias_qk), [`bias_hqk`](fn@bias_hqk), [`bias_bhqk`](fn@bias_bhqk),
//! [`head_gate`](fn@head_gate), [`temperature`](fn@temperature).
//!
//! ```
//! use flex_attention::library::{causal, document};
//!
//! let mask = causal::bind()? & document::bind(&[0, 0, 0, 1, 1])?;
//! # Ok::<(), flex_attention::BindError>(())
//! ```

mod biases;
mod buckets;
mod butterflies;
mod capping;
mod catalog;
mod diffusion;
mod distance;
mod documents;
mod gating;
mod lengths;
mod neighborhood;
mod order;
mod prefixes;
mod scaling;
mod trees;
mod windows;

pub use biases::{bias_bhqk, bias_hqk, bias_qk, key_bias, relative_bias};
pub use buckets::{t5_bias, t5_bucket};
pub use butterflies::xor_tiles;
pub use capping::softcap;
pub use catalog::{CatalogError, LibraryMask, MASKS, mask_by_name};
pub use diffusion::block_diffusion;
pub use distance::{alibi, alibi_slopes};
pub use documents::{document, document_causal, document_per_batch};
pub use gating::head_gate;
pub use lengths::padding;
pub use neighborhood::{natten, sliding_tiles};
pub use order::{causal, permuted_tiles};
pub use prefixes::{prefix_lm, shared_prefix};
pub use scaling::temperature;
pub use trees::{tree, tree_intervals};
pub use windows::{dilated_window, global_sliding, sliding_window};
