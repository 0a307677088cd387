use flex_attention::mask_mod;

fn main() {
    let _ = mask_mod!(|b, h, q, kv| q - kv);
}
