//! Every error that a call can end in, provoked through the public API: the variant, and a message that says what was
//! wrong, what was expected and what to do.

use flex_attention::mask::{ExtentError, MaskError};
use flex_attention::tensor::{Elements, TensorError, TensorRef};
use flex_attention::{AttentionError, Error, FaultReason, ModFault, mask_mod, prelude::*, score_mod};

#[mask_mod]
fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

#[mask_mod]
fn every_nth(b: i32, h: i32, q: i32, kv: i32, n: i32) -> bool {
    (q + kv) % n == 0
}

#[mask_mod]
fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}

#[score_mod]
fn biased(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 2>) -> f32 {
    score + bias[[q, kv]]
}

fn tensor(shape: [usize; 4]) -> Tensor {
    Tensor::from_fn(shape, |[b, h, s, d]| ((b + h * 3 + s * 5 + d * 7) as f32).sin()).unwrap()
}

fn square(len: usize) -> Extent {
    Extent { batch: 1, heads: 1, q_len: len, kv_len: len }
}

fn attention_error(result: Result<Tensor, Error>) -> AttentionError {
    match result {
        Err(Error::Attention(error)) => error,
        other => panic!("expected an attention error, got {other:?}"),
    }
}

fn fault(error: Error) -> ModFault {
    match error {
        Error::Fault(fault)
        | Error::Mask(MaskError::Fault(fault))
        | Error::Attention(AttentionError::Fault(fault)) => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[test]
fn a_capture_out_of_range_is_named_with_its_index() {
    let mask = document::bind(&[0, 0, 1]).unwrap();
    let fault = fault(create_block_mask(&mask, square(4)).unwrap_err().into());
    assert!(
        matches!(&fault.what, FaultReason::OutOfBounds { capture, axis: 0, index: 3, len: 3 } if capture == "doc"),
        "{fault:?}"
    );
    let message = fault.to_string();
    assert!(message.contains("`document`") && message.contains("`doc`") && message.contains("expected 0..3"));
}

#[test]
fn a_score_mod_out_of_range_is_an_error_of_the_call() {
    let table = vec![0.0f32; 4 * 3];
    let score_mod = biased::bind(View::new(&table, [4, 3]).unwrap()).unwrap();
    let x = tensor([1, 1, 4, 8]);
    let fault = fault(flex_attention(&x, &x, &x).score_mod(&score_mod).run().unwrap_err());
    assert!(
        matches!(&fault.what, FaultReason::OutOfBounds { capture, axis: 1, index: 3, len: 3 } if capture == "bias"),
        "{fault:?}"
    );
}

#[test]
fn a_score_mod_is_not_evaluated_where_the_mask_forbids() {
    // Row q of the table has q + 1 columns' worth of meaning: causal never reaches past the 4×4 part.
    let table = vec![0.0f32; 4 * 4];
    let score_mod = biased::bind(View::new(&table, [4, 4]).unwrap()).unwrap();
    let (query, key) = (tensor([1, 1, 4, 8]), tensor([1, 1, 6, 8]));
    let extent = Extent { batch: 1, heads: 1, q_len: 4, kv_len: 6 };
    let mask = create_block_mask(&causal::bind().unwrap(), extent).unwrap();
    let out = flex_attention(&query, &key, &key).score_mod(&score_mod).block_mask(&mask).run();
    assert!(out.is_ok(), "{out:?}");
}

#[test]
fn division_by_zero_is_a_fault_of_the_mod() {
    let error = create_block_mask(&every_nth::bind(0).unwrap(), square(4)).unwrap_err();
    let fault = fault(error.into());
    assert_eq!(fault.what, FaultReason::DivisionByZero);
    assert!(fault.to_string().contains("`every_nth`"));

    let x = tensor([1, 1, 4, 8]);
    let divided = score_mod!(|score, b, h, q, kv| score + (1 / (q - kv)) as f32);
    let error = flex_attention(&x, &x, &x).score_mod(&divided).run().unwrap_err();
    assert_eq!(self::fault(error).what, FaultReason::DivisionByZero);
}

#[test]
fn a_mask_without_block_mask_faults_all_the_same() {
    let x = tensor([1, 1, 4, 8]);
    let mask = document::bind(&[0, 0, 1]).unwrap();
    let fault = fault(flex_attention(&x, &x, &x).mask_mod(&mask).run().unwrap_err());
    assert!(matches!(fault.what, FaultReason::OutOfBounds { index: 3, .. }));
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let q = tensor([2, 4, 5, 8]);
    for (key, value, expected_tensor, expected_dimension) in [
        ([2, 4, 6, 9], [2, 4, 6, 8], "key", "head_dim"),
        ([3, 4, 6, 8], [3, 4, 6, 8], "key", "batch"),
        ([2, 4, 6, 8], [1, 4, 6, 8], "value", "batch"),
        ([2, 4, 6, 8], [2, 2, 6, 8], "value", "heads"),
        ([2, 4, 6, 8], [2, 4, 7, 8], "value", "length"),
    ] {
        match attention_error(flex_attention(&q, &tensor(key), &tensor(value)).run()) {
            AttentionError::ShapeMismatch { tensor, dimension, .. } => {
                assert_eq!((tensor, dimension), (expected_tensor, expected_dimension));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn expressions_of_another_kind_are_no_mods() {
    let expr = |text: &str| text.parse::<flex_core::ir::Expr>().unwrap();
    let wrong = |result: Result<(), BindError>, expected: &str, got: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, BindError::WrongKind { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("`m`") && message.contains(expected) && message.contains(got), "{message}");
    };
    let (index, of_score) = ("v0 = q\nreturn v0\n", "v0 = score\nv1 = eq v0, v0\nreturn v1\n");
    wrong(MaskMod::new("m", expr(index), vec![]).map(drop), "a bool expression", "type i32");
    wrong(MaskMod::new("m", expr(of_score), vec![]).map(drop), "a bool expression", "over the score");
    wrong(ScoreMod::new("m", expr(index), vec![]).map(drop), "an f32 expression", "type i32");
}

#[test]
fn query_heads_are_a_multiple_of_key_heads() {
    let (q, kv) = (tensor([1, 3, 4, 8]), tensor([1, 2, 4, 8]));
    let error = attention_error(flex_attention(&q, &kv, &kv).run());
    assert_eq!(error, AttentionError::HeadRatio { heads: 3, kv_heads: 2 });
    let error = attention_error(flex_attention(&kv, &q, &q).run());
    assert_eq!(error, AttentionError::HeadRatio { heads: 2, kv_heads: 3 });
}

#[test]
fn dtypes_agree() {
    let x = tensor([1, 1, 4, 8]);
    let half = x.to_dtype(DType::BF16).unwrap();
    for (key, value, expected) in [(&half, &x, "key"), (&x, &half, "value")] {
        match attention_error(flex_attention(&x, key, value).run()) {
            AttentionError::DTypeMismatch { tensor, .. } => assert_eq!(tensor, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_block_mask_is_for_its_own_lengths() {
    let x = tensor([2, 2, 5, 8]);
    let lengths = create_block_mask(&causal::bind().unwrap(), square(4)).unwrap();
    let error = attention_error(flex_attention(&x, &x, &x).block_mask(&lengths).run());
    assert!(matches!(error, AttentionError::MaskExtent { .. }));
    assert!(error.to_string().contains("q_len: 4") && error.to_string().contains("q_len: 5"));

    let three = Extent { batch: 3, ..square(5) };
    let batch = create_block_mask(&causal::bind().unwrap(), three).unwrap();
    let error = attention_error(flex_attention(&x, &x, &x).block_mask(&batch).run());
    assert!(matches!(error, AttentionError::MaskExtent { .. }));

    // A mask of one head and sequence serves any number only where it does not depend on them.
    let by_head = mask_mod!(|b, h, q, kv| h == 1 || q >= kv);
    let by_sequence = mask_mod!(|b, h, q, kv| b == 1 || q >= kv);
    for mask in [by_head, by_sequence] {
        let one = create_block_mask(&mask, square(5)).unwrap();
        let error = attention_error(flex_attention(&x, &x, &x).block_mask(&one).run());
        assert!(matches!(error, AttentionError::MaskExtent { .. }), "{}: {error:?}", mask.name());
    }
    let general = create_block_mask(&causal::bind().unwrap(), square(5)).unwrap();
    assert!(flex_attention(&x, &x, &x).block_mask(&general).run().is_ok());
}

#[test]
fn results_are_written_where_nothing_else_looks() {
    let x = tensor([1, 2, 4, 8]);
    let expected = flex_attention(&x, &x, &x).run().unwrap().to_f32_vec().unwrap();
    let mut larger = tensor([2, 2, 4, 8]);
    let mut part = larger.narrow(0, 1, 1).unwrap();
    let shared = |result, expected| {
        assert!(matches!(result, Err(Error::Tensor(TensorError::Shared { tensor })) if tensor == expected));
    };
    shared(flex_attention(&x, &x, &x).run_into(&mut part), "out");
    drop(part);
    let mut lse = tensor([1, 2, 4, 1]);
    let seen = lse.clone();
    let call = flex_attention(&x, &x, &x);
    shared(call.run_into_with(&mut x.clone(), Some(&mut lse), None::<&mut Tensor>), "out");
    let mut out = tensor([1, 2, 4, 8]);
    let call = flex_attention(&x, &x, &x);
    shared(call.run_into_with(&mut out, Some(&mut lse), None::<&mut Tensor>), "lse");
    drop(seen);
    let call = flex_attention(&x, &x, &x);
    call.run_into_with(&mut out, Some(&mut lse), None::<&mut Tensor>).unwrap();
    assert_eq!(out.to_f32_vec().unwrap(), expected);

    let wrong = attention_error(flex_attention(&x, &x, &x).run_into(&mut larger).map(|()| larger));
    assert!(matches!(wrong, AttentionError::ShapeMismatch { tensor: "out", dimension: "batch", .. }));
}

#[test]
fn sizes_of_zero_are_errors() {
    assert!(matches!(
        Tensor::zeros(DType::F32, [1, 1, 0, 8]),
        Err(TensorError::Empty { shape: [1, 1, 0, 8] })
    ));
    let data = [0f32; 8];
    let empty = TensorRef::contiguous("query", Elements::F32(&data), [1, 0, 1, 8]);
    assert!(matches!(empty, Err(AttentionError::EmptyTensor { tensor: "query", .. })));

    let causal = causal::bind().unwrap();
    for (extent, expected) in [
        (Extent { batch: 0, ..square(4) }, "batch"),
        (Extent { heads: 0, ..square(4) }, "heads"),
        (Extent { q_len: 0, ..square(4) }, "q_len"),
        (Extent { kv_len: 0, ..square(4) }, "kv_len"),
    ] {
        match create_block_mask(&causal, extent) {
            Err(MaskError::Extent(ExtentError::Zero { dimension })) => assert_eq!(dimension, expected),
            other => panic!("{other:?}"),
        }
    }
    let no_tiles = BlockMask::builder(&causal).block_size((0, 16)).build(square(4));
    assert!(matches!(no_tiles, Err(MaskError::Extent(ExtentError::Zero { .. }))));
}

#[test]
fn sizes_that_overflow_are_errors() {
    let causal = causal::bind().unwrap();
    for extent in [
        Extent { q_len: 1 << 31, ..square(4) },
        Extent { kv_len: usize::MAX, ..square(4) },
        Extent { batch: 1 << 20, heads: 1 << 20, ..square(4) },
    ] {
        let error = create_block_mask(&causal, extent).unwrap_err();
        assert!(matches!(error, MaskError::Extent(ExtentError::TooLarge { .. })), "{error:?}");
    }
    assert!(matches!(Tensor::zeros(DType::F32, [1 << 30; 4]), Err(TensorError::TooLarge { .. })));
    let data = [0f32; 8];
    let strides = [usize::MAX, usize::MAX, 1, 1];
    let huge = TensorRef::new("key", Elements::F32(&data), [2, 2, 1, 8], strides);
    assert!(matches!(huge, Err(AttentionError::TooLarge { tensor: "key", .. })));
    assert!(matches!(View::with_strides(&data, [2, 2], [usize::MAX, 1]), Err(ViewError::TooLarge { .. })));

    // 2⁵⁵ rows of 512 components: as many elements as a usize counts, and one more.
    let repeated = |shape| TensorRef::new("repeated", Elements::F32(&data), shape, [0; 4]).unwrap();
    let (query, key) = (repeated([1, 1 << 25, 1 << 30, 1]), repeated([1, 1, 1, 1]));
    let error = attention_error(flex_attention(query, key, repeated([1, 1, 1, 512])).run());
    assert!(matches!(error, AttentionError::TooLarge { tensor: "out", .. }), "{error:?}");
}

#[test]
fn borrowed_memory_covers_its_strides() {
    let data = [0f32; 31];
    let error = TensorRef::new("value", Elements::F32(&data), [1, 1, 4, 8], [32, 32, 8, 1]).unwrap_err();
    assert!(matches!(error, AttentionError::OutOfData { tensor: "value", needed: 32, got: 31, .. }));
    assert!(matches!(View::new(&data, [4, 8]), Err(ViewError::OutOfData { needed: 32, got: 31, .. })));
}

#[test]
fn head_dims_have_a_limit() {
    let x = tensor([1, 1, 1, 513]);
    let error = attention_error(flex_attention(&x, &x, &x).run());
    assert_eq!(error, AttentionError::HeadDim { tensor: "query", got: 513, max: 512 });
}

#[test]
fn the_scale_is_finite() {
    let x = tensor([1, 1, 2, 8]);
    for scale in [f32::NAN, f32::INFINITY] {
        let error = attention_error(flex_attention(&x, &x, &x).scale(scale).run());
        assert!(matches!(error, AttentionError::Scale { .. }));
    }
}
