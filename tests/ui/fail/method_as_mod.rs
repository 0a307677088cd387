use flex_attention::prelude::*;

struct Model;

impl Model {
    #[mod_fn]
    fn mistake(&self, x: i32) -> i32 {
        x
    }
}

fn main() {}
