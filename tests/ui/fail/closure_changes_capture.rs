use flex_attention::mask_mod;

fn main() {
    let mut count = 0;
    let _ = mask_mod!(|b, h, q, kv| {
        count += 1;
        q > kv
    });
}
