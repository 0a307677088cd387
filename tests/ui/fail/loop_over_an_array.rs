use flex_attention::prelude::*;

#[mask_mod]
fn mistake(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    let mut found = false;
    for x in doc {
        found |= x == kv;
    }
    found
}

fn main() {}
