use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut sum = 0;
    for i in 0..1000 {
        sum += i;
    }
    sum > q
}

fn main() {}
