use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: usize, h: i32, q: i32, kv: i64) -> bool {
    q >= 0
}

fn main() {}
