use flex_attention::prelude::*;

#[mod_fn]
fn near(q: i32, kv: i32) -> bool {
    q - kv < 3
}

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    near(q, 1.5)
}

fn main() {}
