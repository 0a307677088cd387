use flex_attention::prelude::*;

#[mod_fn]
fn ping(x: i32) -> i32 {
    pong(x) + pong(x + 1)
}

#[mod_fn]
fn pong(x: i32) -> i32 {
    ping(x)
}

fn main() {
    let _ = mask_mod!(|b, h, q, kv| ping(q) > kv);
}
