use flex_attention::prelude::*;

#[mod_fn]
const MISTAKE: i32 = 3;

fn main() {}
