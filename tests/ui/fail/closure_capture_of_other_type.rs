use flex_attention::{mask_mod, score_mod};

fn main() {
    let slope = 0.5f32;
    let _ = score_mod!(|score, b, h, q, kv| score + slope * q);
    let limit = 3u32;
    let _ = mask_mod!(|b, h, q, kv| q < limit);
}
