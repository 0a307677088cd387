use flex_attention::mask_mod;

fn main() {
    fn near(x: i32) -> bool {
        x < 3
    }
    let _ = mask_mod!(|b, h, q, kv| near(q - kv));
}
