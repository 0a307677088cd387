use flex_attention::mask_mod;

fn main() {
    let name = String::new();
    let _ = mask_mod!(|b, h, q, kv| name == q);
}
