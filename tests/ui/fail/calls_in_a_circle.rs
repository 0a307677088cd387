use flex_attention::prelude::*;

#[mod_fn]
fn ping(x: i32) -> i32 {
    pong(x) + pong(x + 1)
}

#[mod_fn]
fn pong(x: i32) -> i32 {
    ping(x)
}

#[mask_mod]
fn caller(b: i32, h: i32, q: i32, kv: i32) -> bool {
    ping(q) > kv
}

fn main() {}
