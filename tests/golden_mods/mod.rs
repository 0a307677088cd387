//! The mods of the golden cases (tests/goldens/cases.py), as a user of this crate writes them.

use std::collections::HashMap;

use flex_attention::prelude::*;
use flex_attention::{mask_mod, score_mod};
use safetensors::{Dtype, SafeTensors};

/// What a golden file captures, by name without `cap.`.
pub(crate) type Captures = HashMap<String, Captured>;

/// A captured array; a scalar has no axes.
#[derive(Clone, Debug)]
pub(crate) enum Captured {
    /// int32.
    I32(Vec<usize>, Vec<i32>),
    /// float32.
    F32(Vec<usize>, Vec<f32>),
}

/// The captures in a golden file.
pub(crate) fn captures(file: &SafeTensors<'_>) -> Captures {
    let mut captures = Captures::new();
    for (name, tensor) in file.tensors() {
        let Some(name) = name.strip_prefix("cap.") else { continue };
        let words = tensor.data().chunks_exact(4).map(|word| word.try_into().expect("four bytes"));
        let shape = tensor.shape().to_vec();
        let captured = match tensor.dtype() {
            Dtype::I32 => Captured::I32(shape, words.map(i32::from_le_bytes).collect()),
            Dtype::F32 => Captured::F32(shape, words.map(f32::from_le_bytes).collect()),
            other => panic!("capture {name} is {other:?}"),
        };
        captures.insert(name.to_owned(), captured);
    }
    captures
}

fn i32s<'a, const N: usize>(captures: &'a Captures, name: &str) -> View<'a, i32, N> {
    let Captured::I32(shape, data) = &captures[name] else { panic!("{name} is not int32") };
    View::new(data, shape.as_slice().try_into().expect("the rank of the case"))
        .expect("as many elements as its shape")
}

fn f32s<'a, const N: usize>(captures: &'a Captures, name: &str) -> View<'a, f32, N> {
    let Captured::F32(shape, data) = &captures[name] else { panic!("{name} is not float32") };
    View::new(data, shape.as_slice().try_into().expect("the rank of the case"))
        .expect("as many elements as its shape")
}

fn i32_scalar(captures: &Captures, name: &str) -> i32 {
    let Captured::I32(_, data) = &captures[name] else { panic!("{name} is not int32") };
    data[0]
}

fn f32_scalar(captures: &Captures, name: &str) -> f32 {
    let Captured::F32(_, data) = &captures[name] else { panic!("{name} is not float32") };
    data[0]
}

#[mask_mod]
fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}

#[mask_mod]
fn inverse_causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q <= kv
}

#[mask_mod]
fn sliding(b: i32, h: i32, q: i32, kv: i32, window: i32) -> bool {
    q >= kv && q - kv <= window
}

#[mask_mod]
fn dilated(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let distance = (q - kv).abs();
    distance <= 48 && distance % 4 == 0
}

#[mask_mod]
fn prefix_lm(b: i32, h: i32, q: i32, kv: i32, prefix: View<i32, 1>) -> bool {
    kv < prefix[b] || q >= kv
}

#[mask_mod]
fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

#[mask_mod]
fn document_causal(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    document(b, h, q, kv, doc) && causal(b, h, q, kv)
}

#[mask_mod]
fn document_per_batch(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 2>) -> bool {
    doc[[b, q]] == doc[[b, kv]] && q >= kv
}

#[mask_mod]
fn padded(b: i32, h: i32, q: i32, kv: i32, lens: View<i32, 1>) -> bool {
    q < lens[b] && kv < lens[b]
}

#[mask_mod]
fn natten(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let (x, y) = ((q / 12).clamp(2, 9), (q % 12).clamp(2, 9));
    (x - kv / 12).abs() <= 2 && (y - kv % 12).abs() <= 2
}

#[mask_mod]
fn head_dependent(b: i32, h: i32, q: i32, kv: i32) -> bool {
    match h % 2 {
        0 => q >= kv,
        _ => q - kv <= 10,
    }
}

#[score_mod]
fn alibi(score: f32, b: i32, h: i32, q: i32, kv: i32, slope: View<f32, 1>) -> f32 {
    score + slope[h] * (kv - q) as f32
}

#[mod_fn]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[score_mod]
fn head_gate(score: f32, b: i32, h: i32, q: i32, kv: i32, g: View<f32, 1>) -> f32 {
    score * sigmoid(g[h])
}

#[score_mod]
fn branches(score: f32, b: i32, h: i32, q: i32, kv: i32) -> f32 {
    if q > kv {
        score * 1.5
    } else if q == kv {
        score
    } else {
        score - 2.0
    }
}

#[score_mod]
fn softcap(score: f32, b: i32, h: i32, q: i32, kv: i32, cap: f32) -> f32 {
    cap * (score / cap).tanh()
}

/// The mods of a case with its captures bound; `None` where the case has none.
pub(crate) fn mods(case: &str, captures: &Captures) -> (Option<MaskMod>, Option<ScoreMod>) {
    (mask(case, captures), score(case, captures))
}

fn mask(case: &str, captures: &Captures) -> Option<MaskMod> {
    let mask = match case {
        "inverse_causal" => inverse_causal::bind(),
        "sliding_window" => sliding::bind(i32_scalar(captures, "window")),
        "dilated_window" => dilated::bind(),
        "global_sliding" => Ok(mask_mod!(|b, h, q, kv| (q - kv).abs() <= 16 || q < 8 || kv < 8)),
        "prefix_lm_batch" => prefix_lm::bind(i32s(captures, "prefix")),
        "document" | "real_minilm_packed" => document::bind(i32s(captures, "doc")),
        "document_causal" => document_causal::bind(i32s(captures, "doc")),
        "document_per_batch" => document_per_batch::bind(i32s(captures, "doc")),
        "padded_batch" => padded::bind(i32s(captures, "lens")),
        "fully_masked_rows" => Ok(mask_mod!(|b, h, q, kv| q > 40 && kv > 60)),
        "everything_masked" => Ok(mask_mod!(|b, h, q, kv| q < 0 && kv >= 0)),
        "natten_12x12" => natten::bind(),
        "skip_odd_keys" => Ok(mask_mod!(|b, h, q, kv| kv % 2 == 0)),
        "head_dependent_mask" => head_dependent::bind(),
        "decode_offset_causal" => {
            let off = i32_scalar(captures, "off");
            Ok(mask_mod!(|b, h, q, kv| q + off >= kv))
        }
        "chunked_prefill" => causal::bind().map(|mask| mask.shift_q(i32_scalar(captures, "off"))),
        "mask_and_score_gqa" => {
            let doc = i32s::<1>(captures, "doc");
            Ok(mask_mod!(|b, h, q, kv| doc[q] == doc[kv] && q >= kv))
        }
        "times_two"
        | "relative_position"
        | "scale_quarter"
        | "head_gate"
        | "captured_temperature"
        | "softcap20_causal"
        | "alibi_then_softcap" => causal::bind(),
        _ if case.contains("causal") => causal::bind(),
        _ => return None,
    };
    Some(mask.expect("the captures of the case fit its mask"))
}

fn score(case: &str, captures: &Captures) -> Option<ScoreMod> {
    let score = match case {
        "times_two" => Ok(score_mod!(|score, b, h, q, kv| score * 2.0)),
        "squared" => Ok(score_mod!(|score, b, h, q, kv| score.powi(2))),
        "relative_position" => Ok(score_mod!(|score, b, h, q, kv| score + (q - kv) as f32)),
        "alibi_causal" => alibi::bind(f32s(captures, "slope")),
        "softcap20_causal" => softcap::bind(20.0),
        "trig" => Ok(score_mod!(|score, b, h, q, kv| score.sin() + score.cos() * 0.5)),
        "silu_on_score" => Ok(score_mod!(|score, b, h, q, kv| score * sigmoid(score))),
        "relative_bias_1d" => {
            let bias = f32s::<1>(captures, "bias");
            Ok(score_mod!(|score, b, h, q, kv| score + bias[q - kv + 127]))
        }
        "bias_qk" => {
            let bias = f32s::<2>(captures, "bias");
            Ok(score_mod!(|score, b, h, q, kv| score + bias[[q, kv]]))
        }
        "bias_bhqk" => {
            let bias = f32s::<4>(captures, "bias");
            Ok(score_mod!(|score, b, h, q, kv| score + bias[(b, h, q, kv)]))
        }
        "head_gate" => head_gate::bind(f32s(captures, "g")),
        "captured_temperature" => {
            let t = &f32_scalar(captures, "t");
            Ok(score_mod!(|score, b, h, q, kv| score / t))
        }
        "indirect_bias" => {
            let (bias, offset) = (f32s::<1>(captures, "bias"), i32s::<1>(captures, "offset"));
            Ok(score_mod!(|score, b, h, q, kv| score + bias[offset[q]] * 0.5))
        }
        "branches" => branches::bind(),
        "alibi_then_softcap" => {
            alibi::bind(f32s(captures, "slope")).and_then(|alibi| Ok(alibi.then(&softcap::bind(15.0)?)))
        }
        "mask_and_score_gqa" => alibi::bind(f32s(captures, "slope")),
        _ => return None,
    };
    Some(score.expect("the captures of the case fit its score mod"))
}
