use flex_attention::score_mod;

fn main() {
    let x = vec![0.0f32];
    let _ = score_mod!(|score, b, h, q, kv| x[q] + x[[q, kv]]);
}
