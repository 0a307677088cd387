use flex_attention::prelude::*;

const N: usize = 3;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q < N
}

fn main() {}
