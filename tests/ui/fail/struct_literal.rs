use flex_attention::prelude::*;

struct Pair {
    x: i32,
}

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    Pair { x: q }.x > kv
}

fn main() {}
