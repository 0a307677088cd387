use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32) -> bool {
    match q {
        x @ 1..=3 => x > kv,
        Some(_) => true,
        _ => false,
    }
}

fn main() {}
