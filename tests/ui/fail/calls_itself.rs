use flex_attention::prelude::*;

#[mod_fn]
fn mistake(x: i32) -> i32 {
    if x > 0 { mistake(x - 1) } else { 0 }
}

fn main() {}
