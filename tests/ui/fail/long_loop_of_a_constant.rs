use flex_attention::prelude::*;

const N: i32 = 300;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut sum = 0;
    for i in 0..N {
        sum += i;
    }
    sum > q
}

fn main() {}
