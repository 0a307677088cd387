use flex_attention::mask_mod;

fn main() {
    let doc = vec![0u64, 1];
    let _ = mask_mod!(|b, h, q, kv| doc[q] == doc[kv]);
}
