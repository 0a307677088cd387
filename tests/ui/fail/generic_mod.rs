use flex_attention::prelude::*;

#[mask_mod]
fn mistake<'a, T: Copy>(b: i32, h: i32, q: i32, kv: i32, x: View<'a, f32, 1>) -> bool
where
    T: Send,
{
    x[q] > 0.0
}

fn main() {}
