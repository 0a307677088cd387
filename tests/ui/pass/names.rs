//! The user's names never meet those of the generated code.

use flex_attention::{mask_mod, prelude::*, score_mod};

#[mod_fn]
fn callee(x: i32) -> bool {
    x > 0
}

#[mod_fn]
fn build(builder: i32, arguments: View<i32, 1>) -> i32 {
    let lowering = arguments[builder];
    let n0 = lowering + 1;
    n0 * 2
}

#[mask_mod]
fn names(p0: i32, n1: i32, lowering: i32, builder: i32, arguments: View<i32, 1>, iteration: i32) -> bool {
    let mut n0 = p0;
    for slot in 0..2 {
        n0 += slot;
    }
    callee(build(lowering, arguments) + n0 + n1 + builder + iteration)
}

fn main() {
    let (lowering, n0, captured_0, bound_0, p4, doc) = (1, 2, 3, 4, 5u32, vec![1.5f32]);
    let _ = names::bind(&[1, 2], 3).unwrap();
    let _ = mask_mod!(|b, h, q, kv| callee(lowering + n0 + captured_0 + bound_0) && p4 > 3);
    let (value, result) = (score_mod!(|score, b, h, q, kv| score * doc[0] + doc[b]), 3);
    let _ = (value, result);
}
