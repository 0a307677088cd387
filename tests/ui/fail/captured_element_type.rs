use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32, lens: View<i64, 1>) -> bool {
    lens[b] > q as i64
}

fn main() {}
