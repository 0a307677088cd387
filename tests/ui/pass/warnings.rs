//! Mods compile without warnings, however few of their inputs they use.
#![deny(warnings, missing_docs, unreachable_pub, clippy::all)]

use flex_attention::{mask_mod, prelude::*, score_mod};

/// Public, documented.
#[mask_mod]
pub(crate) fn documented(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}

#[mask_mod]
fn only_bound(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    let mut x = doc[q];
    for i in 0..2 {
        x += i;
    }
    x == doc[kv]
}

#[mod_fn]
fn only_called_from_mods(x: f32) -> f32 {
    x * 2.0
}

#[score_mod]
fn only_called(score: f32, _b: i32, _: i32, q: i32, kv: i32, a: f32, c: f32, d: f32) -> f32 {
    only_called_from_mods(score) + a + c + d
}

fn main() {
    let window = 3;
    let _ = documented::bind().unwrap() & only_bound::bind(&[0, 1]).unwrap();
    let _ = only_called::bind(1.0, 2.0, 3.0);
    let _ = mask_mod!(|b, h, q, kv| q - kv <= window);
    let _ = score_mod!(|score, b, h, q, kv| score);
}
