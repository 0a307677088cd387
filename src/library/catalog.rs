//! The masks of the library by name, with parameters that show well in a drawing.

use super::{
    block_diffusion, causal, dilated_window, document, document_causal, global_sliding, natten, padding,
    permuted_tiles, prefix_lm, shared_prefix, sliding_tiles, sliding_window, tree_intervals, xor_tiles,
};
use crate::BindError;
use crate::prelude::*;

/// A mask of the library, for any sequence length.
#[derive(Clone, Copy, Debug)]
pub struct LibraryMask {
    /// The name, as `flex mask` takes it.
    pub name: &'static str,
    /// What it is, with the parameters chosen.
    pub description: &'static str,
    bind: fn(i32) -> Result<MaskMod, BindError>,
}

impl LibraryMask {
    /// The mask for sequences of `seq_len` queries and keys (batch 1).
    ///
    /// # Errors
    /// If `seq_len` is 0 or over `i32::MAX`.
    pub fn bind(&self, seq_len: usize) -> Result<MaskMod, CatalogError> {
        let len = i32::try_from(seq_len).ok().filter(|len| *len > 0);
        let len = len.ok_or(CatalogError::SeqLen { got: seq_len })?;
        Ok((self.bind)(len)?.named(self.name))
    }
}

/// Why there is no such mask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// No mask has the name.
    #[error("there is no mask `{got}` in the library; there are {names}", names = names())]
    UnknownName {
        /// The name asked for.
        got: String,
    },
    /// The length cannot be one of a sequence.
    #[error("a sequence length of {got} is outside 1 to {max}", max = i32::MAX)]
    SeqLen {
        /// The length asked for.
        got: usize,
    },
    /// The mask could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

fn names() -> String {
    MASKS.iter().map(|mask| mask.name).collect::<Vec<_>>().join(", ")
}

/// Every mask that can be drawn by name.
pub const MASKS: &[LibraryMask] = &[
    LibraryMask {
        name: "causal",
        description: "a query sees itself and all keys before it",
        bind: |_| causal::bind(),
    },
    LibraryMask {
        name: "sliding_window",
        description: "causal, up to a distance of an eighth of the length",
        bind: |len| sliding_window::bind(fraction(len, 8)),
    },
    LibraryMask {
        name: "dilated_window",
        description: "every 4th key up to a distance of a quarter of the length, on both sides",
        bind: |len| dilated_window::bind(fraction(len, 4), 4),
    },
    LibraryMask {
        name: "global_sliding",
        description: "a window of a sixteenth of the length on both sides, and a 32nd of the positions global",
        bind: |len| global_sliding::bind(fraction(len, 16), fraction(len, 32)),
    },
    LibraryMask {
        name: "prefix_lm",
        description: "causal behind a prefix of a quarter of the length that all see",
        bind: |len| prefix_lm::bind(&[fraction(len, 4)]),
    },
    LibraryMask {
        name: "document",
        description: "12 packed documents of unequal lengths, each sees itself",
        bind: |len| document::bind(documents(len)),
    },
    LibraryMask {
        name: "document_causal",
        description: "12 packed documents of unequal lengths, each causal",
        bind: |len| document_causal::bind(documents(len)),
    },
    LibraryMask {
        name: "shuffled_document",
        description: "the same documents, their tokens in no order: every tile is mixed",
        bind: |len| document::bind(shuffled(documents(len))),
    },
    LibraryMask {
        name: "packed_causal",
        description: "causal documents of 512 to 1536 tokens, as long-context training packs them",
        bind: |len| document_causal::bind(packed(len)),
    },
    LibraryMask {
        name: "padding",
        description: "a sequence that fills three quarters of the length",
        bind: |len| padding::bind(&[len - len / 4]),
    },
    LibraryMask {
        name: "natten",
        description: "13×13 neighborhoods on the largest square image that fits",
        bind: |len| {
            let side = len.isqrt();
            // Pixels behind the square are further rows of the same width.
            let height = (len + side - 1) / side;
            natten::bind(side, height, if side >= 13 { 13 } else { side - (side + 1) % 2 })
        },
    },
    LibraryMask {
        name: "sta_3d",
        description: "sliding tiles: a video in tiles of 4×4×4 pixels, each sees 3×3×3 tiles, the largest frames that fit",
        bind: |len| {
            let tiles = (len - 1) / 64 + 1;
            let side = (1..).take_while(|side: &i32| side.pow(3) <= tiles).last().unwrap_or(1);
            sliding_tiles::bind((tiles - 1) / (side * side) + 1, side, side, 64, 1)
        },
    },
    LibraryMask {
        name: "block_diffusion",
        description: "noised and clean halves in blocks of 32 (8 blocks each where they are short), as BD3-LM trains",
        bind: |len| block_diffusion::bind(fraction(len, 2), fraction(len, 16).min(32)),
    },
    LibraryMask {
        name: "tree",
        description: "a binary tree of draft tokens in depth-first order",
        bind: |len| tree_intervals::bind(0, last_descendants(len)),
    },
    LibraryMask {
        name: "shared_prefix",
        description: "4 continuations of one prompt of a quarter of the length",
        bind: |len| {
            let prefix = fraction(len, 4);
            let rest = (len - prefix).max(1);
            let branch =
                |i: i32| if i < prefix { -1 } else { (i64::from(i - prefix) * 4 / i64::from(rest)) as i32 };
            shared_prefix::bind(prefix, (0..len).map(branch).collect::<Vec<_>>())
        },
    },
    LibraryMask {
        name: "permuted_tiles",
        description: "causal over tiles of 128 tokens in no order",
        bind: |len| permuted_tiles::bind(128, shuffled((0..(len - 1) / 128 + 1).collect())),
    },
    LibraryMask {
        name: "xor_tiles",
        description: "tiles of 128 tokens see every fourth tile",
        bind: |_| xor_tiles::bind(128, 3),
    },
    LibraryMask {
        name: "unprovable",
        description: "a hash of both positions; it keeps all, which nothing but looking at every element tells",
        bind: |_| unprovable::bind(),
    },
];

/// Always true, since the lowest bits are cut off: the slowest mask there can be, for no tile shows both values early.
#[mask_mod]
fn unprovable(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let bits = (((q ^ kv) * 7989) ^ (q * 7)) & 4080;
    bits != 5
}

/// The mask of a name for sequences of `seq_len` queries and keys.
///
/// # Errors
/// If there is no such mask, or the length is 0 or over `i32::MAX`.
pub fn mask_by_name(name: &str, seq_len: usize) -> Result<MaskMod, CatalogError> {
    let mask = MASKS.iter().find(|mask| mask.name == name);
    mask.ok_or_else(|| CatalogError::UnknownName { got: name.into() })?.bind(seq_len)
}

fn fraction(len: i32, parts: i32) -> i32 {
    (len / parts).max(1)
}

/// 12 documents whose lengths are as 1 to 12, mixed.
fn documents(len: i32) -> Vec<i32> {
    const PARTS: [i64; 12] = [5, 1, 9, 3, 12, 7, 2, 10, 4, 8, 6, 11];
    let total: i64 = PARTS.iter().sum();
    let mut ids = Vec::with_capacity(len as usize);
    let mut until = 0;
    for (id, part) in PARTS.iter().enumerate() {
        until += part;
        ids.resize((until * i64::from(len) / total) as usize, id as i32);
    }
    ids
}

/// Documents of 512 to 1536 tokens.
fn packed(len: i32) -> Vec<i32> {
    let mut ids = Vec::with_capacity(len as usize);
    let mut state = 1u32;
    for id in 0.. {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        ids.resize((ids.len() + 512 + (state >> 22) as usize).min(len as usize), id);
        if ids.len() == len as usize {
            break;
        }
    }
    ids
}

/// The same numbers in an order that is always the same one and has no pattern.
fn shuffled(mut numbers: Vec<i32>) -> Vec<i32> {
    let mut state = 1u32;
    for i in (1..numbers.len()).rev() {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        numbers.swap(i, state as usize % (i + 1));
    }
    numbers
}

/// The last descendant of every node of a balanced binary tree in depth-first order.
fn last_descendants(len: i32) -> Vec<i32> {
    let mut last = vec![0; len as usize];
    let mut open = vec![(0, len)];
    while let Some((root, end)) = open.pop() {
        if root >= end {
            continue;
        }
        last[root as usize] = end - 1;
        let middle = root + 1 + (end - root - 1) / 2;
        open.extend([(root + 1, middle), (middle, end)]);
    }
    last
}

#[cfg(test)]
mod tests {
    use flex_core::analysis::interpret::{Point, mask};

    use super::*;

    /// Evaluates a mask at every pair.
    fn dense(mask_mod: &MaskMod, len: i32) -> Vec<Vec<bool>> {
        let at = |q, kv| {
            mask(mask_mod.bound(), Point { b: 0, h: 0, q, kv }).expect("library masks have no faults")
        };
        (0..len).map(|q| (0..len).map(|kv| at(q, kv)).collect()).collect()
    }

    #[test]
    fn every_mask_holds_at_every_length() {
        for entry in MASKS {
            for len in [1usize, 2, 3, 5, 12, 13, 40, 64, 100] {
                let mask_mod = entry.bind(len).unwrap();
                assert_eq!(mask_mod.name(), entry.name);
                let seen = dense(&mask_mod, len as i32);
                assert!(seen.iter().flatten().any(|&seen| seen), "{} of {len} sees nothing", entry.name);
            }
        }
    }

    #[test]
    fn every_query_of_a_causal_kind_sees_itself_and_nothing_later() {
        for name in ["causal", "sliding_window", "document_causal", "tree", "shared_prefix"] {
            let seen = dense(&mask_by_name(name, 48).unwrap(), 48);
            for (q, row) in seen.iter().enumerate() {
                assert!(row[q], "{name}: {q} does not see itself");
                assert!(!row[q + 1..].contains(&true), "{name}: {q} sees the future");
            }
        }
    }

    #[test]
    fn descendants_see_their_ancestors() {
        // 0 has the children 1 and 4, 1 has 2 and 3, 4 has 5 and 6.
        assert_eq!(last_descendants(7), [6, 3, 2, 3, 6, 5, 6]);
        let seen = dense(&mask_by_name("tree", 7).unwrap(), 7);
        assert_eq!(seen[3], [true, true, false, true, false, false, false]);
    }

    #[test]
    fn interior_pixels_see_a_whole_neighborhood() {
        let seen = dense(&mask_by_name("natten", 400).unwrap(), 400);
        assert!(seen.iter().all(|row| row.iter().filter(|seen| **seen).count() == 169));
    }

    #[test]
    fn documents_fill_the_sequence() {
        assert_eq!(documents(78).iter().filter(|id| **id == 4).count(), 12);
        assert_eq!(documents(5).len(), 5);
    }

    #[test]
    fn wrong_names_and_lengths_are_errors() {
        let error = mask_by_name("casual", 8).unwrap_err().to_string();
        assert!(error.contains("`casual`") && error.contains("causal, sliding_window"), "{error}");
        assert_eq!(mask_by_name("causal", 0).unwrap_err(), CatalogError::SeqLen { got: 0 });
    }
}
