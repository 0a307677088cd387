use flex_attention::prelude::*;

struct Limits;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    Limits::new(q) > kv
}

fn main() {}
