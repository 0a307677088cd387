use flex_attention::prelude::*;

#[score_mod]
fn mistake(score: f32, b: i32, h: i32, q: i32, kv: i32, t: f32) -> f32 {
    score + t[0]
}

fn main() {}
