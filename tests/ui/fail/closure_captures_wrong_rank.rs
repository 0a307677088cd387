use flex_attention::score_mod;

fn main() {
    let bias = vec![0.0f32, 1.0];
    let _ = score_mod!(|score, b, h, q, kv| score + bias[[q, kv]]);
}
