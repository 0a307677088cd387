//! From the IR of mods to the `struct Mods` that a kernel template is instantiated with.
//!
//! The text is split by variance: what depends on the row is computed once a row, what depends on the column once a column.
//! It has no branches: both sides of an `if` are computed, loads that must not happen are predicated, and faults are values
//! that are passed on as the interpreter passes them on.

mod code;
#[cfg(test)]
mod differential;
mod kept_keys;
mod layout;
mod length;
mod mods;
mod position_sum;
mod rewrite;
mod scope;
mod staged;
mod text;
mod variance;

pub use layout::{CaptureLayout, CaptureSlot, ModKind, SlotContent, SlotError};
pub use staged::StagedTerms;

use flex_core::analysis::simplify::simplify;
use flex_core::analysis::variance::{Inputs, Variance};
use flex_core::ir::{Expr, Input};
use flex_core::mods::BoundExpr;
use serde::{Deserialize, Serialize};

use crate::plan::hopper;
use crate::{CodegenError, FaultPlace, FaultSites, Guards, KernelSpec, Precision, Snippet};
use code::{Guarding, ModCode};
use rewrite::{Exponent, ExponentScale};

/// An operation of a kernel's mods that may fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultSite {
    /// Whose operation.
    pub of: ModKind,
    /// What may go wrong.
    pub place: FaultPlace,
}

/// Whether the keys that a mask keeps in a row are always an interval that kernels can compute from the row.
pub fn keeps_an_interval(mask: &Expr) -> bool {
    kept_keys::conditions(&simplify(mask)).is_some()
}

/// Whether kernels compute a score mod without looking where an element is: it depends on the score alone, or it is a line
/// in the key.
pub(crate) fn needs_no_place(score: &Expr, guards: Guards, precision: Precision) -> bool {
    let fast_and_proved = guards == Guards::Proved && precision == Precision::Fast;
    let score = simplify(score);
    let of_score_alone = Variance::of(&score).root().is_subset(Inputs::of(&[Input::Score]));
    fast_and_proved && (of_score_alone || may_be_line(&score))
}

impl Snippet {
    /// The mods of a specification as C++.
    ///
    /// # Errors
    /// If they have too many captures, or the mask is given twice.
    pub fn of(spec: &KernelSpec) -> Result<Self, CodegenError> {
        if spec.kept_keys_from_table && spec.mask.is_some() {
            return Err(CodegenError::Spec {
                what: "the mask",
                got: "an expression beside a table of kept keys".into(),
                expected: "one of them",
            });
        }
        let captures = CaptureLayout::new(spec.mask.as_deref(), spec.score.as_deref())?;
        if spec.mask.is_none() && spec.score.is_none() && !spec.kept_keys_from_table {
            let text = "#include \"flex/default_mods.cuh\"\n".to_owned();
            return Ok(Self {
                text,
                captures,
                fault_sites: FaultSites::default(),
                terms: StagedTerms::default(),
                staged: StagedTerms::default(),
            });
        }
        let (mask_guarding, score_guarding) = match spec.guards {
            Guards::Guarded => (Guarding::Quiet, Guarding::Recorded),
            Guards::Proved => (Guarding::None, Guarding::None),
        };
        let mask = spec.mask.as_deref().map(simplify);
        let exponent = spec.score.as_deref().map(|expr| exponent(expr, spec)).transpose()?;
        let mut sites = Vec::new();
        let mask_code = mask
            .as_ref()
            .map(|e| ModCode::new(ModKind::Mask, e, spec.precision, mask_guarding, None, &mut sites));
        let mut score_code = |expr| {
            let scale = Some(rewrite::scale_of(expr));
            ModCode::new(ModKind::Score, expr, spec.precision, score_guarding, scale, &mut sites)
        };
        let score = exponent.as_ref().map(|e| score_code(&e.score));
        let lines = exponent.as_ref().and_then(|e| e.key_line.as_ref());
        let key_line = lines.map(|(slope, offset)| [score_code(slope), score_code(offset)]);
        let captured_scale = match exponent.as_ref().map(|e| &e.scale) {
            Some(ExponentScale::Captured(factor)) => Some(score_code(factor)),
            _ => None,
        };
        let mut mods = mods::Mods {
            kept_keys: mask.as_ref().and_then(kept_keys::conditions),
            kept_keys_from_table: spec.kept_keys_from_table,
            mask: mask_code,
            score,
            can_fault: !sites.is_empty(),
            exponent_scale: exponent.as_ref().map_or(ExponentScale::Constant(1.0), |e| e.scale.clone()),
            captured_scale,
            key_line,
        };
        let terms = match spec.stages_terms {
            true => mods.stage(hopper::stages_simple_distances(spec), |terms| hopper::terms_fit(spec, terms)),
            false => StagedTerms::default(),
        };
        let staged = mods.staged_terms();
        Ok(Self { text: mods.text(), captures, fault_sites: FaultSites(sites), terms, staged })
    }
}

impl Snippet {
    /// A mask alone, computed accurately; faults are recorded unless it is proved that there are none.
    ///
    /// # Errors
    /// If it has too many captures.
    pub fn of_mask(mask: &Expr, guards: Guards) -> Result<Self, CodegenError> {
        let captures = CaptureLayout::new(Some(mask), None)?;
        let guarding = match guards {
            Guards::Guarded => Guarding::Recorded,
            Guards::Proved => Guarding::None,
        };
        let simplified = simplify(mask);
        let mut sites = Vec::new();
        let code = ModCode::new(ModKind::Mask, &simplified, Precision::Accurate, guarding, None, &mut sites);
        let mods = mods::Mods {
            kept_keys: None,
            kept_keys_from_table: false,
            mask: Some(code),
            score: None,
            can_fault: !sites.is_empty(),
            exponent_scale: ExponentScale::Constant(1.0),
            captured_scale: None,
            key_line: None,
        };
        let none = StagedTerms::default();
        Ok(Self { text: mods.text(), captures, fault_sites: FaultSites(sites), terms: none, staged: none })
    }
}

/// Whether what a score mod's kernels take for positive is, with the captures it is bound to.
pub(crate) fn factors_are_positive(score: &BoundExpr) -> bool {
    rewrite::captured_factor(score).is_none_or(rewrite::is_factor)
}

/// Whether kernels may compute a score mod as a line in the key.
pub(crate) fn may_be_line(score: &Expr) -> bool {
    let exponent = rewrite::to_exponent(&simplify(score), Precision::Fast, Guards::Proved, true);
    exponent.is_ok_and(|exponent| exponent.key_line.is_some())
}

fn exponent(expr: &Expr, spec: &KernelSpec) -> Result<Exponent, CodegenError> {
    // Code of masks beside takes the registers that the multiplication needs.
    let has_registers = spec.mask.as_deref().is_none_or(keeps_an_interval);
    let with_factor = !(hopper::softmax_is_in_place(spec) && has_registers);
    let exponent = rewrite::to_exponent(&simplify(expr), spec.precision, spec.guards, with_factor);
    exponent.map_err(|error| CodegenError::Spec {
        what: "the score mod",
        got: error.to_string(),
        expected: "a well-typed expression",
    })
}
