use flex_attention::prelude::*;

#[score_mod]
fn mistake(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 1>) -> f32 {
    let x = score * 2;
    let y = bias[score];
    while x > 0.0 {}
    unknown + x.tan()
}

fn main() {
    // The uses of a mod with mistakes are not reported as well.
    let _ = mistake::bind(&[1.0, 2.0]);
    let _ = mistake(1.0, 0, 0, 0, 0, View::new(&[1.0], [1]).unwrap());
}
