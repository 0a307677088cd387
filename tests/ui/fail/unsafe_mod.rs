use flex_attention::prelude::*;

#[mod_fn]
unsafe fn mistake(x: i32) -> i32 {
    x
}

fn main() {}
