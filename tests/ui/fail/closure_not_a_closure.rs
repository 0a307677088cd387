use flex_attention::mask_mod;

fn main() {
    let _ = mask_mod!(causal);
    let _ = mask_mod!();
}
