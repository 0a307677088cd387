use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut found = false;
    for i in 0..q {
        found |= i == kv;
    }
    found
}

fn main() {}
