use flex_attention::prelude::*;

fn main() {
    #[mask_mod]
    fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>, window: i32) -> bool {
        doc[q] == doc[kv] && q - kv <= window
    }
    let _ = document::bind(&[0.5f32], 3);
    let _ = document::bind(&[0], 3u32);
    let _ = document::bind(&[0]);
}
