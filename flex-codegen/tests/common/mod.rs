//! Mods that stand for the kinds there are, in the textual form of expressions.

use std::sync::Arc;

use flex_core::ir::Expr;

/// Masks by name.
pub(crate) const MASKS: &[(&str, &str)] = &[
    ("causal", "v0 = q\nv1 = kv\nv2 = ge v0, v1\nreturn v2"),
    (
        "sliding_window",
        "capture @0 = window: i32\nv0 = q\nv1 = kv\nv2 = ge v0, v1\nv3 = sub v0, v1\nv4 = @0\nv5 = le v3, v4\nv6 = false\n\
         v7 = select v2, v5, v6\nreturn v7",
    ),
    (
        "document_causal",
        "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = kv\nv2 = load @0[v0]\nv3 = load @0[v1]\nv4 = eq v2, v3\nv5 = ge v0, v1\n\
         v6 = false\nv7 = select v4, v5, v6\nreturn v7",
    ),
    (
        "causal_then_document",
        "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = kv\nv2 = ge v0, v1\nv3 = load @0[v0]\nv4 = load @0[v1]\nv5 = eq v3, v4\n\
         v6 = false\nv7 = select v2, v5, v6\nreturn v7",
    ),
    (
        "prefix_lm",
        "capture @0 = prefix: View<i32, 1>\nv0 = b\nv1 = q\nv2 = kv\nv3 = load @0[v0]\nv4 = lt v2, v3\nv5 = ge v1, v2\nv6 = true\n\
         v7 = select v4, v6, v5\nreturn v7",
    ),
    (
        "natten",
        "capture @0 = width: i32\ncapture @1 = reach: i32\nv0 = q\nv1 = kv\nv2 = @0\nv3 = div v0, v2\nv4 = div v1, v2\n\
         v5 = rem v0, v2\nv6 = rem v1, v2\nv7 = sub v3, v4\nv8 = abs v7\nv9 = @1\nv10 = le v8, v9\nv11 = sub v5, v6\nv12 = abs v11\n\
         v13 = le v12, v9\nv14 = and v10, v13\nreturn v14",
    ),
    (
        "dense_table",
        "capture @0 = table: View<bool, 3>\nv0 = h\nv1 = q\nv2 = kv\nv3 = load @0[v0, v1, v2]\nreturn v3",
    ),
];

/// Score mods by name.
pub(crate) const SCORES: &[(&str, &str)] = &[
    (
        "alibi",
        "capture @0 = slope: View<f32, 1>\nv0 = score\nv1 = h\nv2 = load @0[v1]\nv3 = kv\nv4 = q\nv5 = sub v3, v4\n\
         v6 = cast f32 v5\nv7 = mul v2, v6\nv8 = add v0, v7\nreturn v8",
    ),
    ("softcap", "v0 = score\nv1 = 20.0f32\nv2 = div v0, v1\nv3 = tanh v2\nv4 = mul v1, v3\nreturn v4"),
    (
        "relative_bias",
        "capture @0 = bias: View<f32, 2>\ncapture @1 = reach: i32\nv0 = score\nv1 = h\nv2 = q\nv3 = kv\nv4 = sub v2, v3\nv5 = @1\n\
         v6 = add v4, v5\nv7 = load @0[v1, v6]\nv8 = add v0, v7\nreturn v8",
    ),
    (
        "temperature",
        "capture @0 = temperature: View<f32, 2>\nv0 = score\nv1 = b\nv2 = q\nv3 = load @0[v1, v2]\nv4 = div v0, v3\nreturn v4",
    ),
];

/// One of the mods above.
pub(crate) fn expr(name: &str) -> Arc<Expr> {
    let (_, text) = MASKS.iter().chain(SCORES).find(|(n, _)| *n == name).expect("a name from the lists");
    Arc::new(text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}
