//! What can be said of mods before they run.

use flex_codegen::Guards;
use flex_core::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram, Span};
use flex_core::attention::Shape;
use flex_core::mods::BoundExpr;

/// The positions that an f32 holds exactly.
const EXACT_POSITIONS: usize = 1 << 24;

/// Whether the mods' loads and divisions can go wrong anywhere in the problem. Where they cannot, kernels leave them
/// bare, and calls need not wait for a fault.
pub(super) fn guards(mask: Option<&BoundExpr>, score: Option<&BoundExpr>, shape: &Shape) -> Guards {
    let mut mods = mask.into_iter().chain(score).peekable();
    let short = shape.q_len.max(shape.kv_len) <= EXACT_POSITIONS;
    match mods.peek().is_some() && short && mods.all(|bound| is_safe(bound, shape)) {
        true => Guards::Proved,
        false => Guards::Guarded,
    }
}

/// Whether no operation faults at any point inside the tensors, whatever branch is taken: kernels evaluate all branches,
/// at positions clamped to the tensors.
fn is_safe(bound: &BoundExpr, shape: &Shape) -> bool {
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    let all = |len: usize| Span::new(0, len as i32 - 1);
    let everywhere =
        IndexBox { b: all(shape.batch), h: all(shape.heads), q: all(shape.q_len), kv: all(shape.kv_len) };
    analysis.evaluate(&everywhere, FloatRange::ANY);
    bound.expr().ids().all(|id| !analysis.may_fault(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mask_mod, score_mod};

    fn shape(q_len: usize, kv_len: usize) -> Shape {
        Shape::new([1, 2, q_len, 8], [1, 2, kv_len, 8], [1, 2, kv_len, 8]).unwrap()
    }

    #[test]
    fn what_is_inside_everywhere_is_proved() {
        let doc = vec![0i32; 100];
        let documents = mask_mod!(|b, h, q, kv| doc[q] == doc[kv] && q >= kv);
        let of = |q_len, kv_len| guards(Some(documents.bound()), None, &shape(q_len, kv_len));
        assert_eq!(of(100, 100), Guards::Proved);
        assert_eq!(of(100, 101), Guards::Guarded, "a key behind the end of the capture");
        assert_eq!(guards(None, None, &shape(4, 4)), Guards::Guarded, "one kernel without mods");
    }

    #[test]
    fn a_branch_that_is_not_taken_counts() {
        let bias = vec![0.5f32; 10];
        let guarded = score_mod!(|score, b, h, q, kv| if kv < 10 { score + bias[kv] } else { score });
        assert_eq!(guards(None, Some(guarded.bound()), &shape(4, 11)), Guards::Guarded);
        assert_eq!(guards(None, Some(guarded.bound()), &shape(4, 10)), Guards::Proved);
    }

    #[test]
    fn positions_that_f32_rounds_are_not_proved() {
        let distance = score_mod!(|score, b, h, q, kv| score - (q - kv) as f32);
        assert_eq!(guards(None, Some(distance.bound()), &shape(1, 1 << 24)), Guards::Proved);
        assert_eq!(guards(None, Some(distance.bound()), &shape(1, (1 << 24) + 1)), Guards::Guarded);
    }
}
