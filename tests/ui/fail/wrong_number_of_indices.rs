use flex_attention::prelude::*;

#[score_mod]
fn mistake(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 2>) -> f32 {
    score + bias[q]
}

fn main() {}
