use flex_attention::score_mod;

fn main() {
    let _ = score_mod!(|score, b, h, q, kv| score + q);
}
