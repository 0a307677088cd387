use flex_attention::score_mod;

fn main() {
    let _ = score_mod!(|b, h, q, kv| 1.0);
}
