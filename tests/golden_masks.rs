//! The masks of the golden cases equal the tensors that PyTorch made of theirs.

mod golden_mods;

use std::path::Path;

use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::ir::Scalar;
use golden_mods::{captures, mods};
use safetensors::SafeTensors;

#[test]
fn golden_masks_are_equal() {
    let mut masks = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let case = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let source = |name: &str| metadata.metadata().as_ref().unwrap()[name].clone();
        let captures = captures(&file);
        let (mask, score) = mods(&case, &captures);
        assert_eq!(mask.is_some(), !source("mask_mod").is_empty(), "{case}: mask mod");
        assert_eq!(score.is_some(), !source("score_mod").is_empty(), "{case}: score mod");
        let (Some(mask), Ok(expected)) = (mask, file.tensor("mask")) else { continue };
        masks += 1;
        let [bs, hs, qs, kvs] = expected.shape().try_into().unwrap();
        let mut interpreter = Interpreter::<f32>::new(mask.bound());
        let mut expected = expected.data().iter();
        for (b, h, q, kv) in points(bs, hs, qs, kvs) {
            let got = interpreter.evaluate(Point { b, h, q, kv }, 0.0).unwrap();
            assert_eq!(
                Scalar::from(got),
                Scalar::Bool(*expected.next().unwrap() == 1),
                "{case} at {b} {h} {q} {kv}"
            );
        }
    }
    assert!(masks >= 35, "only {masks} golden masks were found");
}

fn points(bs: usize, hs: usize, qs: usize, kvs: usize) -> impl Iterator<Item = (i32, i32, i32, i32)> {
    (0..bs as i32).flat_map(move |b| {
        (0..hs as i32)
            .flat_map(move |h| (0..qs as i32).flat_map(move |q| (0..kvs as i32).map(move |kv| (b, h, q, kv))))
    })
}
