use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32, x: View<bool, 5>, y: View<f32>) -> bool {
    x[q]
}

fn main() {}
