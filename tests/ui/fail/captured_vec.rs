use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32, doc: Vec<i32>) -> bool {
    doc[q] == doc[kv]
}

fn main() {}
