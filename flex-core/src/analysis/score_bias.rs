//! Score mods that add to the score what depends on the place alone: ALiBi, learned biases of a distance or of a key.
//!
//! Such a bias has few values beside the scores it is added to. It needs to be known once for each key, or for each
//! distance of a key from a query.

use super::distance::Distances;
use super::variance::Variance;
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Type};

/// `score + bias`, or `score − bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreBias {
    /// The bias, an f32 that does not depend on the score.
    pub bias: NodeId,
    /// Whether it is subtracted.
    pub is_subtracted: bool,
    /// What it depends on beside b and h.
    pub along: BiasAlong,
}

/// The one number of a place that a bias depends on. The bias, or its fault, is the same wherever that number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasAlong {
    /// kv
    Key,
    /// kv − q
    Distance,
}

/// The bias that is all there is to a score mod, if it is one.
pub fn score_bias(expr: &Expr) -> Option<ScoreBias> {
    if expr.result_type() != Type::F32 {
        return None;
    }
    let is_score = |id| matches!(expr.node(id), Node::Input(Input::Score));
    let (bias, is_subtracted) = match *expr.node(expr.root()) {
        Node::Binary(BinaryOp::Add, score, bias) | Node::Binary(BinaryOp::Add, bias, score)
            if is_score(score) =>
        {
            (bias, false)
        }
        Node::Binary(BinaryOp::Sub, score, bias) if is_score(score) => (bias, true),
        _ => return None,
    };
    let inputs = Variance::of(expr).inputs(bias);
    let along = match () {
        () if inputs.contains(Input::Score) => return None,
        () if !inputs.contains(Input::Query) => BiasAlong::Key,
        () if Distances::of(expr, false).is_of_distance(bias) => BiasAlong::Distance,
        () => return None,
    };
    Some(ScoreBias { bias, is_subtracted, along })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(BiasAlong, bool)> {
        let expr: Expr = text.parse().unwrap();
        score_bias(&expr).map(|bias| (bias.along, bias.is_subtracted))
    }

    #[test]
    fn alibi_and_tables_of_distances_and_keys_are_biases() {
        let alibi = "capture @0 = slope: View<f32, 1>\nv0 = score\nv1 = h\nv2 = load @0[v1]\nv3 = kv\nv4 = q\nv5 = sub v3, v4\n\
                     v6 = cast f32 v5\nv7 = mul v2, v6\nv8 = add v0, v7\nreturn v8";
        assert_eq!(found(alibi), Some((BiasAlong::Distance, false)));
        assert_eq!(found(&alibi.replace("add v0, v7", "sub v0, v7")), Some((BiasAlong::Distance, true)));
        assert_eq!(found(&alibi.replace("add v0, v7", "mul v0, v7")), None);
        assert_eq!(found(&alibi.replace("sub v3, v4", "add v3, v4")), None);
        let table = "capture @0 = bias: View<f32, 1>\nv0 = score\nv1 = kv\nv2 = load @0[v1]\nv3 = add v2, v0\nreturn v3";
        assert_eq!(found(table), Some((BiasAlong::Key, false)));
        assert_eq!(found(&table.replace("v1 = kv", "v1 = q")), None);
    }

    #[test]
    fn what_cancels_out_may_still_fault() {
        let text = "capture @0 = doc: View<i32, 1>\nv0 = score\nv1 = q\nv2 = load @0[v1]\nv3 = sub v2, v2\nv4 = cast f32 v3\n\
                    v5 = add v0, v4\nreturn v5";
        assert_eq!(found(text), None);
    }
}
