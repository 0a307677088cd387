use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut sum = 0;
    for i in 0..4 {
        if i == q {
            break;
        }
        sum += i;
    }
    sum > q
}

fn main() {}
