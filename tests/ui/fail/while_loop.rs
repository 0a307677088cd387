use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut x = q;
    while x > 0 {
        x -= 1;
    }
    x == kv
}

fn main() {}
