//! What can be proved of mods for a problem of a given size.

use crate::emit::{factors_are_positive, may_be_line};
use flex_core::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram};
use flex_core::capture::{Capture, CaptureValue};
use flex_core::mask::Extent;
use flex_core::mods::BoundExpr;
use serde::{Deserialize, Serialize};

/// Up to this length f32 holds the terms of a score that is a line in the key well enough for 16-bit attention.
const LONGEST: usize = 1 << 17;

/// Up to this length of a captured axis an index that is in bounds cannot have wrapped, if it is a sum of positions and
/// of one other number.
const LONGEST_AXIS: usize = 1 << 30;

/// What has been proved of the mods' loads and divisions for the problem at hand.
///
/// The only way in which values reach the choice of a kernel: one specification has at most these two variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guards {
    /// Nothing: the score mod reads nothing out of bounds and records faults; the mask, which its block mask has proved
    /// free of faults, guards the loads that Rust would not always execute.
    #[default]
    Guarded,
    /// No load of either mod can be out of bounds and no divisor zero, whatever branch is taken; the lengths are at most
    /// 2¹⁷, so that positions may be computed with in f32, and captured axes at most 2³⁰, so that sums with positions in
    /// bounds have not wrapped; the scale is positive, as is what scores have as a common factor; and that factor and what is
    /// a line in the key are at most 2²⁴ in size.
    Proved,
}

impl Guards {
    /// Whether a scale counts as positive: small ones, whose reciprocal may overflow, do not.
    pub fn is_positive(scale: f32) -> bool {
        scale >= 1e-30
    }

    /// What the interval analysis proves of the mods, with the captures they are bound to, for every element of a
    /// problem whose scale [is positive](Self::is_positive).
    pub fn prove(
        mask: Option<&BoundExpr>,
        score: Option<&BoundExpr>,
        extent: &Extent,
        positive_scale: bool,
    ) -> Self {
        let numbers_fit = extent.q_len.max(extent.kv_len) <= LONGEST && positive_scale;
        let proved = numbers_fit
            && score.is_none_or(factors_are_positive)
            && score.is_none_or(|score| !may_be_line(score.expr()) || adds_little(score, extent))
            && [mask, score].into_iter().flatten().all(|bound| never_faults(bound, extent));
        if proved { Self::Proved } else { Self::Guarded }
    }
}

/// Whether what a mod makes of a score of 0 is always small beside numbers that f32 rounds to integers.
fn adds_little(score: &BoundExpr, extent: &Extent) -> bool {
    const LARGEST: f32 = (1 << 24) as f32;
    let program = IntervalProgram::new(score);
    let mut analysis = IntervalAnalysis::new(&program);
    analysis.evaluate(&IndexBox::of(extent), FloatRange::single(0.0));
    let added = analysis.root().float();
    !added.nan && -LARGEST <= added.lo && added.hi <= LARGEST
}

/// Whether no node of the mod can fault anywhere, wherever Rust would evaluate it or not.
fn never_faults(bound: &BoundExpr, extent: &Extent) -> bool {
    let is_short = |capture: &Capture| match &capture.value {
        CaptureValue::Scalar(_) => true,
        CaptureValue::Array(array) => array.shape().iter().all(|&len| len <= LONGEST_AXIS),
    };
    if !bound.captures().iter().all(is_short) {
        return false;
    }
    let everywhere = IndexBox::of(extent);
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    analysis.evaluate(&everywhere, FloatRange::ANY);
    bound.expr().ids().all(|id| !analysis.may_fault(id))
}

#[cfg(test)]
mod tests {
    use flex_core::capture::IntoArray;
    use flex_core::ir::Scalar;
    use flex_core::mods::{MaskMod, ScoreMod};

    use super::*;

    fn document_mask(guarded: bool, len: usize) -> MaskMod {
        let text = match guarded {
            false => {
                "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = kv\nv2 = load @0[v0]\nv3 = load @0[v1]\nv4 = eq v2, v3\nreturn v4"
            }
            true => {
                "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = len @0, 0\nv2 = lt v0, v1\nv3 = load @0[v0]\nv4 = kv\nv5 = load @0[v4]\n\
                 v6 = eq v3, v5\nv7 = false\nv8 = select v2, v6, v7\nreturn v8"
            }
        };
        let captures =
            vec![Capture { name: "doc".into(), value: CaptureValue::Array(vec![0i32; len].into_array()) }];
        MaskMod::new("document", text.parse().unwrap(), captures).unwrap()
    }

    #[test]
    fn a_common_factor_must_be_positive() {
        let text = "capture @0 = cap: f32\nv0 = score\nv1 = @0\nv2 = div v0, v1\nv3 = tanh v2\nv4 = mul v1, v3\nreturn v4";
        let extent = Extent { batch: 1, heads: 1, q_len: 100, kv_len: 60 };
        for (cap, expected) in [
            (20.0, Guards::Proved),
            (-20.0, Guards::Guarded),
            (0.0, Guards::Guarded),
            (f32::NAN, Guards::Guarded),
        ] {
            let value = CaptureValue::Scalar(Scalar::F32(cap));
            let captures = vec![Capture { name: "cap".into(), value }];
            let softcap = ScoreMod::new("softcap", text.parse().unwrap(), captures).unwrap();
            assert_eq!(Guards::prove(None, Some(softcap.bound()), &extent, true), expected, "{cap}");
        }
    }

    #[test]
    fn a_line_must_be_small() {
        let text = "capture @0 = slope: f32\nv0 = score\nv1 = q\nv2 = kv\nv3 = sub v2, v1\nv4 = cast f32 v3\nv5 = @0\n\
                    v6 = mul v4, v5\nv7 = add v0, v6\nreturn v7";
        let extent = Extent { batch: 1, heads: 1, q_len: 100, kv_len: 60 };
        for (slope, expected) in [
            (0.5, Guards::Proved),
            (1e5, Guards::Proved),
            (-1e6, Guards::Guarded),
            (f32::NAN, Guards::Guarded),
        ] {
            let value = CaptureValue::Scalar(Scalar::F32(slope));
            let captures = vec![Capture { name: "slope".into(), value }];
            let alibi = ScoreMod::new("alibi", text.parse().unwrap(), captures).unwrap();
            assert_eq!(Guards::prove(None, Some(alibi.bound()), &extent, true), expected, "{slope}");
        }
    }

    #[test]
    fn the_length_of_a_capture_decides() {
        let extent = Extent { batch: 1, heads: 1, q_len: 100, kv_len: 60 };
        let prove = |mask: &MaskMod| Guards::prove(Some(mask.bound()), None, &extent, true);
        assert_eq!(prove(&document_mask(false, 100)), Guards::Proved);
        assert_eq!(prove(&document_mask(false, 99)), Guards::Guarded);
        assert_eq!(
            prove(&document_mask(true, 60)),
            Guards::Guarded,
            "what a branch guards is still read by both sides"
        );
        assert_eq!(Guards::prove(None, None, &extent, true), Guards::Proved);
        assert_eq!(Guards::prove(None, None, &extent, false), Guards::Guarded);
        let long = Extent { kv_len: LONGEST + 1, ..extent };
        assert_eq!(Guards::prove(None, None, &long, true), Guards::Guarded);
    }
}
