use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut x = 0;
    let y = (x = q);
    x > kv
}

fn main() {}
