//! Mods by name, bound to captures of the lengths that calls bind: what is proved of them selects a kernel.

use flex_attention::{library, prelude::*};

use crate::error::ProgramError;

/// The mods of a kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Mods {
    pub(super) mask: Option<MaskMod>,
    pub(super) score: Option<ScoreMod>,
}

/// A score mod of the library, bound to captures as long as heads and sequences.
struct LibraryScore {
    name: &'static str,
    bind: fn(Sizes) -> Result<ScoreMod, ProgramError>,
}

/// What the lengths of captures follow, both between 1 and `i32::MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) seq_len: usize,
}

/// An array of one value, so that lengths no array can have are an error of the view.
fn repeated<const N: usize>(shape: [usize; N]) -> Result<View<'static, f32, N>, ProgramError> {
    Ok(View::with_strides(&[0.0], shape, [0; N])?)
}

const SCORES: &[LibraryScore] = &[
    LibraryScore { name: "alibi", bind: |s| Ok(library::alibi::bind(library::alibi_slopes(s.heads))?) },
    LibraryScore { name: "softcap", bind: |_| Ok(library::softcap::bind(20.0)?) },
    LibraryScore { name: "t5_bias", bind: |s| Ok(library::t5_bias::bind(repeated([32, s.heads])?, 128)?) },
    LibraryScore {
        name: "relative_bias",
        bind: |s| Ok(library::relative_bias::bind(repeated([2 * s.seq_len - 1])?, s.seq_len as i32 - 1)?),
    },
    LibraryScore { name: "key_bias", bind: |s| Ok(library::key_bias::bind(repeated([s.seq_len])?)?) },
    LibraryScore { name: "bias_qk", bind: |s| Ok(library::bias_qk::bind(repeated([s.seq_len; 2])?)?) },
    LibraryScore { name: "head_gate", bind: |s| Ok(library::head_gate::bind(repeated([s.heads])?)?) },
    LibraryScore { name: "temperature", bind: |_| Ok(library::temperature::bind(1.0)?) },
];

impl Mods {
    /// The mods of a name: masks of the library, score mods of the library, or some of both joined by `+`. Masks are
    /// intersected, score mods follow each other. `dense` stands for none.
    pub(super) fn parse(name: &str, sizes: Sizes) -> Result<Self, ProgramError> {
        let mut mods = Self::default();
        for part in name.split('+').filter(|&part| part != "dense") {
            if let Some(score) = SCORES.iter().find(|score| score.name == part) {
                let score = (score.bind)(sizes)?;
                mods.score = Some(match mods.score.take() {
                    Some(before) => before.then(&score),
                    None => score,
                });
            } else if library::MASKS.iter().any(|mask| mask.name == part) {
                let mask = library::mask_by_name(part, sizes.seq_len)?;
                mods.mask = Some(match mods.mask.take() {
                    Some(before) => before & mask,
                    None => mask,
                });
            } else {
                let masks = library::MASKS.iter().map(|mask| mask.name);
                let known: Vec<&str> = masks.chain(SCORES.iter().map(|score| score.name)).collect();
                return Err(ProgramError::UnknownMod { got: part.into(), known: known.join(", ") });
            }
        }
        Ok(mods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { heads: 4, seq_len: 64 };

    #[test]
    fn names_are_joined_by_kind() {
        let mods = Mods::parse("causal+document+alibi+softcap", SIZES).unwrap();
        assert_eq!(mods.mask.unwrap().name(), "(causal & document)");
        assert_eq!(mods.score.unwrap().name(), "alibi.then(softcap)");
        let none = Mods::parse("dense", SIZES).unwrap();
        assert!(none.mask.is_none() && none.score.is_none());
    }

    #[test]
    fn every_score_mod_binds() {
        for LibraryScore { name, .. } in SCORES {
            assert_eq!(Mods::parse(name, SIZES).unwrap().score.unwrap().name(), *name);
        }
    }

    #[test]
    fn unknown_names_are_named() {
        let message = Mods::parse("causal+alibbi", SIZES).unwrap_err().to_string();
        assert!(message.contains("`alibbi`") && message.contains("alibi"), "{message}");
    }
}
