//! Every golden through the public API: outputs and log-sum-exps in all dtypes, with and without a block mask, and the
//! masks element by element.

mod support;

use flex_attention::mask::TileKind;
use flex_attention::prelude::*;
use support::golden::{DenseMask, Golden};
use support::relative_error;

/// Runs one golden with its inputs in `dtype`, and returns the relative errors of out and lse.
fn errors(golden: &Golden, dtype: DType, block_mask: Option<&BlockMask>) -> (f64, f64) {
    let [query, key, value] =
        [&golden.query, &golden.key, &golden.value].map(|tensor| tensor.to_dtype(dtype).unwrap());
    let mut call = flex_attention(&query, &key, &value).scale(golden.scale);
    if let Some(score_mod) = &golden.score_mod {
        call = call.score_mod(score_mod);
    }
    match (block_mask, &golden.mask_mod) {
        (Some(block_mask), _) => call = call.block_mask(block_mask),
        (None, Some(mask_mod)) => call = call.mask_mod(mask_mod),
        (None, None) => {}
    }
    let output = call.run_with(Aux::LSE).unwrap();
    assert_eq!(output.out.dtype(), dtype);
    let lse = output.lse.unwrap().to_f32_vec().unwrap();
    (
        relative_error(&output.out.to_f32_vec().unwrap(), &golden.out),
        lse_error(&golden.name, &lse, &golden.lse),
    )
}

/// The relative error over the rows that see keys; the others must be −∞ in both.
fn lse_error(name: &str, got: &[f32], expected: &[f32]) -> f64 {
    let finite = |x: &[f32]| x.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect::<Vec<_>>();
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(*got == f32::NEG_INFINITY, *expected == f32::NEG_INFINITY, "{name}: lse of row {row}");
        assert!(!got.is_nan(), "{name}: lse of row {row}");
    }
    relative_error(&finite(got), &finite(expected))
}

fn check(dtype: DType, out_tolerance: f64) {
    let names = Golden::names();
    assert!(names.len() >= 52, "only {} goldens", names.len());
    let (mut failures, mut worst) = (Vec::new(), 0f64);
    for name in names {
        let golden = Golden::load(&name);
        let block_masks = golden.mask_mod.iter().flat_map(|mask| {
            [128, 32, 17]
                .map(|side| BlockMask::builder(mask).block_size(side).build(golden.extent()).unwrap())
        });
        for block_mask in block_masks.map(Some).chain([None]) {
            let (out, lse) = errors(&golden, dtype, block_mask.as_ref());
            worst = worst.max(out);
            // lse is computed and returned in f32, whatever the inputs are: they are the same numbers in all dtypes.
            if !(out <= out_tolerance && lse <= 2e-6) {
                let tiles = block_mask.map(|mask| mask.block_size().q);
                failures.push(format!("{name} in {dtype}, tiles {tiles:?}: out {out:.1e}, lse {lse:.1e}"));
            }
        }
    }
    println!("{dtype}: the largest relative error of out is {worst:.1e}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn f32_inputs_agree_to_f32_accuracy() {
    check(DType::F32, 2e-6);
}

#[test]
fn bf16_inputs_agree_to_bf16_accuracy() {
    check(DType::BF16, 5e-3);
}

#[test]
fn f16_inputs_agree_to_f16_accuracy() {
    check(DType::F16, 5e-3);
}

#[test]
fn block_masks_are_those_of_the_golden_masks() {
    let mut masks = 0;
    for name in Golden::names() {
        let golden = Golden::load(&name);
        let (Some(expected), Some(mask_mod)) = (&golden.mask, &golden.mask_mod) else { continue };
        masks += 1;
        for block in [BlockSize { q: 128, kv: 128 }, BlockSize { q: 16, kv: 16 }, BlockSize { q: 7, kv: 33 }]
        {
            let block_mask = BlockMask::builder(mask_mod).block_size(block).build(golden.extent()).unwrap();
            compare_tiles(&name, &block_mask, expected);
        }
    }
    assert!(masks >= 35, "only {masks} masks");
}

/// Every tile is skipped where the golden keeps nothing of it, full where it keeps all, and partial otherwise.
fn compare_tiles(name: &str, block_mask: &BlockMask, expected: &DenseMask) {
    let (Extent { batch, heads, q_len, kv_len }, block) = (block_mask.extent(), block_mask.block_size());
    for b in 0..batch {
        for h in 0..heads {
            for q_block in 0..block_mask.q_blocks() {
                for kv_block in 0..block_mask.kv_blocks() {
                    let queries = q_block * block.q..q_len.min((q_block + 1) * block.q);
                    let keys = kv_block * block.kv..kv_len.min((kv_block + 1) * block.kv);
                    let elements = queries.len() * keys.len();
                    let kept = queries
                        .flat_map(|q| keys.clone().map(move |kv| [b, h, q, kv]))
                        .filter(|&index| expected.keeps(index))
                        .count();
                    let kind = match kept {
                        0 => None,
                        _ if kept == elements => Some(TileKind::Full),
                        _ => Some(TileKind::Partial),
                    };
                    let got = block_mask.tile(b, h, q_block, kv_block);
                    assert_eq!(got, kind, "{name}: tile {q_block}, {kv_block} of {b}, {h}");
                }
            }
        }
    }
}
