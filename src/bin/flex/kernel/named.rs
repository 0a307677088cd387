//! Mods by name, as kernels need them: their code. What they capture is a parameter of the launch.

use flex_attention::{library, prelude::*};

use crate::error::ProgramError;

/// The mods of a kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Mods {
    pub(super) mask: Option<MaskMod>,
    pub(super) score: Option<ScoreMod>,
}

/// A score mod of the library, bound to captures of any value.
struct LibraryScore {
    name: &'static str,
    bind: fn() -> Result<ScoreMod, BindError>,
}

const SCORES: &[LibraryScore] = &[
    LibraryScore { name: "alibi", bind: || library::alibi::bind(&[0.5f32]) },
    LibraryScore { name: "softcap", bind: || library::softcap::bind(20.0) },
    LibraryScore { name: "relative_bias", bind: || library::relative_bias::bind(&[0.0f32], 0) },
    LibraryScore { name: "key_bias", bind: || library::key_bias::bind(&[0.0f32]) },
    LibraryScore { name: "bias_qk", bind: || library::bias_qk::bind(&[[0.0f32]]) },
    LibraryScore { name: "head_gate", bind: || library::head_gate::bind(&[0.0f32]) },
    LibraryScore { name: "temperature", bind: || library::temperature::bind(1.0) },
];

impl Mods {
    /// The mods of a name: masks of the library, score mods of the library, or some of both joined by `+`. Masks are
    /// intersected, score mods follow each other. `dense` stands for none.
    pub(super) fn parse(name: &str, seq_len: usize) -> Result<Self, ProgramError> {
        let mut mods = Self::default();
        for part in name.split('+').filter(|&part| part != "dense") {
            if let Some(score) = SCORES.iter().find(|score| score.name == part) {
                let score = (score.bind)()?;
                mods.score = Some(match mods.score.take() {
                    Some(before) => before.then(&score),
                    None => score,
                });
            } else if library::MASKS.iter().any(|mask| mask.name == part) {
                let mask = library::mask_by_name(part, seq_len)?;
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

    #[test]
    fn names_are_joined_by_kind() {
        let mods = Mods::parse("causal+document+alibi+softcap", 64).unwrap();
        assert_eq!(mods.mask.unwrap().name(), "(causal & document)");
        assert_eq!(mods.score.unwrap().name(), "alibi.then(softcap)");
        let none = Mods::parse("dense", 64).unwrap();
        assert!(none.mask.is_none() && none.score.is_none());
    }

    #[test]
    fn every_score_mod_binds() {
        for LibraryScore { name, .. } in SCORES {
            assert_eq!(Mods::parse(name, 64).unwrap().score.unwrap().name(), *name);
        }
    }

    #[test]
    fn unknown_names_are_named() {
        let message = Mods::parse("causal+alibbi", 64).unwrap_err().to_string();
        assert!(message.contains("`alibbi`") && message.contains("alibi"), "{message}");
    }
}
