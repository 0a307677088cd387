use flex_attention::prelude::*;

const TABLE: [i32; 2] = [1, 2];

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    TABLE[q] > kv
}

fn main() {}
