//! The cases of `flex bench`: the masks and score mods that other implementations are measured on.

use clap::ValueEnum;
use flex_attention::{library, mask_mod, prelude::*};

use crate::error::ProgramError;
use crate::inputs::Normal;

/// What is measured. All but `dense`, `relpos_dense` and `decode` have a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Every query sees every key.
    Dense,
    /// Keys up to the query.
    Causal,
    /// Keys up to the query, at most 1024 back.
    Sliding1024,
    /// The first quarter of the keys, and keys up to the query.
    #[value(name = "prefix_lm")]
    PrefixLm,
    /// 12 documents of unequal lengths packed into a sequence.
    Document12,
    /// The same documents, causal.
    #[value(name = "doc_causal12")]
    DocCausal12,
    /// Causal, with a linear bias of the distance.
    #[value(name = "alibi_causal")]
    AlibiCausal,
    /// Causal, scores capped at ±20 by tanh.
    #[value(name = "softcap20_causal")]
    Softcap20Causal,
    /// A learned bias of the distance, no mask.
    #[value(name = "relpos_dense")]
    RelposDense,
    /// A 13×13 neighbourhood on a square grid; the sequence length is a square.
    Natten13,
    /// Few queries (`--queries`) that see every key, measured by how fast keys and values are read. Only if asked for.
    Decode,
}

const WINDOW: usize = 1024;
const DOCUMENTS: usize = 12;
const NEIGHBOURHOOD: usize = 13;

impl Case {
    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Causal => "causal",
            Self::Sliding1024 => "sliding1024",
            Self::PrefixLm => "prefix_lm",
            Self::Document12 => "document12",
            Self::DocCausal12 => "doc_causal12",
            Self::AlibiCausal => "alibi_causal",
            Self::Softcap20Causal => "softcap20_causal",
            Self::RelposDense => "relpos_dense",
            Self::Natten13 => "natten13",
            Self::Decode => "decode",
        }
    }

    /// Whether the case is defined for sequences of this length.
    pub(crate) fn fits(self, seq_len: usize) -> bool {
        let width = seq_len.isqrt();
        self != Self::Natten13 || (width >= NEIGHBOURHOOD && width * width == seq_len)
    }

    fn check(self, seq_len: usize) -> Result<(), ProgramError> {
        if self.fits(seq_len) {
            return Ok(());
        }
        let needed = "a square of at least 13 (16384 is 128 times 128)";
        Err(ProgramError::Case { case: self.name(), needed, option: "seq-len", got: seq_len })
    }

    /// Queries a sequence, of which `asked` are asked for.
    pub(crate) fn queries(self, asked: usize, seq_len: usize) -> Result<usize, ProgramError> {
        match self {
            Self::Decode if !(1..=seq_len).contains(&asked) => {
                let needed = "at least one query and at most as many as keys";
                Err(ProgramError::Case { case: self.name(), needed, option: "queries", got: asked })
            }
            Self::Decode => Ok(asked),
            _ => Ok(seq_len),
        }
    }

    /// The mask; `None` where every pair is kept.
    pub(crate) fn mask(self, seq_len: usize) -> Result<Option<MaskMod>, ProgramError> {
        self.check(seq_len)?;
        let documents = || document_ids(seq_len, DOCUMENTS);
        Ok(match self {
            Self::Dense | Self::RelposDense | Self::Decode => None,
            Self::Causal | Self::AlibiCausal | Self::Softcap20Causal => Some(library::causal::bind()?),
            Self::Sliding1024 => Some(library::sliding_window::bind(WINDOW as i32)?),
            Self::PrefixLm => Some(prefix_lm(seq_len as i32 / 4)),
            Self::Document12 => Some(library::document::bind(documents())?),
            Self::DocCausal12 => Some(library::document_causal::bind(documents())?),
            Self::Natten13 => {
                let width = seq_len.isqrt() as i32;
                // Width and reach are constants in the code of the others too.
                Some(library::natten::bind(width, width, NEIGHBOURHOOD as i32)?.with_constant_scalars())
            }
        })
    }

    /// The score mod, if the case has one.
    pub(crate) fn score(self, heads: usize, seq_len: usize) -> Result<Option<ScoreMod>, ProgramError> {
        Ok(match self {
            Self::AlibiCausal => {
                let slope = |head: usize| (-8.0 * (head + 1) as f32 / heads as f32).exp2();
                Some(library::alibi::bind((0..heads).map(slope).collect::<Vec<f32>>())?)
            }
            Self::Softcap20Causal => Some(library::softcap::bind(20.0)?),
            Self::RelposDense => {
                let mut normal = Normal::new(11);
                let table: Vec<f32> = (0..2 * seq_len).map(|_| normal.next()).collect();
                Some(library::relative_bias::bind(table, seq_len as i32)?)
            }
            _ => None,
        })
    }

    /// The cases that are measured unless some are named.
    pub(crate) fn all(seq_len: usize) -> Vec<Self> {
        let fits = |case: &Self| *case != Self::Decode && case.fits(seq_len);
        Self::value_variants().iter().copied().filter(fits).collect()
    }

    /// How many (query, key) pairs of one head with as many queries as keys the mask keeps, counted row by row.
    pub(crate) fn unmasked_pairs(self, seq_len: usize) -> u64 {
        let rows = 0..seq_len;
        let keys: u64 = match self {
            Self::Dense | Self::RelposDense | Self::Decode => rows.map(|_| seq_len as u64).sum(),
            Self::Causal | Self::AlibiCausal | Self::Softcap20Causal => rows.map(|q| q as u64 + 1).sum(),
            Self::Sliding1024 => rows.map(|q| q.min(WINDOW) as u64 + 1).sum(),
            Self::PrefixLm => rows.map(|q| (q + 1).max(seq_len / 4) as u64).sum(),
            Self::Document12 => document_lengths(seq_len, DOCUMENTS).map(|n| n * n).sum(),
            Self::DocCausal12 => document_lengths(seq_len, DOCUMENTS).map(|n| n * (n + 1) / 2).sum(),
            // The window is moved inside the grid at its edges, so every row keeps all of it.
            Self::Natten13 => rows.map(|_| (NEIGHBOURHOOD * NEIGHBOURHOOD) as u64).sum(),
        };
        keys
    }
}

/// The prefix is a scalar here, so that the mask does not depend on the batch.
fn prefix_lm(prefix: i32) -> MaskMod {
    mask_mod!(|b, h, q, kv| kv < prefix || q >= kv)
}

/// The document of every token, for `documents` of lengths in the proportions `(5·i mod documents) + 1`.
fn document_ids(seq_len: usize, documents: usize) -> Vec<i32> {
    let starts = document_starts(seq_len, documents);
    (0..seq_len).map(|token| starts.partition_point(|&start| start <= token) as i32).collect()
}

fn document_lengths(seq_len: usize, documents: usize) -> impl Iterator<Item = u64> {
    let mut cuts = document_starts(seq_len, documents);
    cuts.insert(0, 0);
    cuts.push(seq_len);
    (1..cuts.len()).map(move |i| (cuts[i] - cuts[i - 1]) as u64)
}

/// Where the second and later documents start: the running sums of the proportions, rounded down. In sequences too
/// short for all of them, documents without tokens vanish.
fn document_starts(seq_len: usize, documents: usize) -> Vec<usize> {
    let weights = (0..documents).map(|i| (5 * i) % documents + 1);
    let total: usize = weights.clone().sum();
    let mut starts: Vec<usize> = weights
        .scan(0, |sum, weight| {
            *sum += weight;
            Some(seq_len * *sum / total)
        })
        .take(documents - 1)
        .collect();
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests {
    use flex_core::analysis::interpret::{Interpreter, Point};
    use flex_core::ir::semantics::Value;

    use super::*;

    fn count_by_evaluation(mask: &MaskMod, seq_len: usize) -> u64 {
        let mut mask = Interpreter::<f32>::new(mask.bound());
        let len = seq_len as i32;
        let pairs = (0..len).flat_map(|q| (0..len).map(move |kv| Point { b: 0, h: 0, q, kv }));
        pairs.filter(|&at| mask.evaluate(at, 0.0) == Ok(Value::Bool(true))).count() as u64
    }

    #[test]
    fn pairs_are_what_the_mask_keeps() {
        for case in Case::value_variants() {
            for seq_len in [1, 5, 12, 100, 169, 400, 1089].into_iter().filter(|&len| case.fits(len)) {
                let mask = case.mask(seq_len).unwrap().unwrap_or_else(MaskMod::all);
                let counted = count_by_evaluation(&mask, seq_len);
                assert_eq!(case.unmasked_pairs(seq_len), counted, "{} at {seq_len}", case.name());
            }
        }
    }

    #[test]
    fn documents_are_cut_as_the_proportions_say() {
        // 1, 6, 11, 4, 9, 2, 7, 12, 5, 10, 3, 8 of 78.
        let lengths: Vec<u64> = document_lengths(78, 12).collect();
        assert_eq!(lengths, [1, 6, 11, 4, 9, 2, 7, 12, 5, 10, 3, 8]);
        assert_eq!(document_ids(78, 12)[..8], [0, 1, 1, 1, 1, 1, 1, 2]);
        assert_eq!(document_lengths(8192, 12).sum::<u64>(), 8192);
    }

    #[test]
    fn names_on_the_command_line_are_those_of_results() {
        for case in Case::value_variants() {
            assert_eq!(case.to_possible_value().unwrap().get_name(), case.name());
        }
    }

    #[test]
    fn natten_needs_a_square() {
        assert!(Case::Natten13.mask(1000).is_err());
        assert!(Case::Natten13.mask(144).is_err());
    }
}
