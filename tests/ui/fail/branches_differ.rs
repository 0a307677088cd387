use flex_attention::prelude::*;

#[score_mod]
fn mistake(score: f32, b: i32, h: i32, q: i32, kv: i32) -> f32 {
    let x = if q > kv { score } else { 0 };
    x
}

fn main() {}
