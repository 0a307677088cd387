use flex_attention::mask_mod;

fn main() {
    let window = 128usize;
    let _ = mask_mod!(|b, h, q, kv| q - kv <= window);
}
