use flex_attention::mask_mod;

fn main() {
    let _ = mask_mod!(|q, kv| q >= kv);
}
