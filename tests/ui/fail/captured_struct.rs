use flex_attention::prelude::*;

struct Config;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32, config: Config) -> bool {
    q > 0
}

fn main() {}
