//! Shapes and layouts on a GPU: tile edges, head dims, grouped heads, strides, borrowed memory, masked rows.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::cuda::{CudaDevice, CudaError, CudaOptions, CudaStream, CudaTensorMut, CudaTensorRef};
use flex_attention::library::{causal, sliding_window};
use flex_attention::prelude::*;
use flex_attention::tensor::TensorError;
use flex_attention::{Error, mask_mod, score_mod};
use flex_core::testing;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::gpu::{Case, gpu, poisoned};

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Another seed in every run, and in the output of a failing one.
fn fresh() -> StdRng {
    let seed = rand::rng().random();
    println!("seed {seed:#x}");
    StdRng::seed_from_u64(seed)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn lengths_around_every_tile_edge() {
    let (gpu, mut rng) = (gpu(), fresh());
    let near = |edge: usize| edge - 1..=edge + 1;
    let mut lengths: Vec<usize> = (1..=4).collect();
    for edge in [16, 32, 64, 96, 128, 192, 256] {
        lengths.extend(near(edge));
    }
    for dtype in DTYPES {
        // A head dim of the Hopper kernel where it has the dtype.
        let dim = if dtype == DType::F32 { 32 } else { 64 };
        for _ in 0..testing::cases(lengths.len() as u32) {
            // Every q length once, unless FLEX_TEST_SCALE asks for another number of them.
            lengths.rotate_left(7);
            let q_len = lengths[0];
            // Every q length with some kv length of each kind, and every kv length with some q length.
            for kv_len in [1, 2, 3, 4, q_len, lengths[rng.random_range(0..lengths.len())]] {
                let case = Case::random(&mut rng, dtype, [1, 2, q_len, dim], [1, 2, kv_len, dim], dim);
                case.check(&gpu, &format!("{dtype} dense {q_len}×{kv_len}"));
                case.masked(causal::bind().unwrap()).check(&gpu, &format!("{dtype} causal {q_len}×{kv_len}"));
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn head_dims_of_all_kinds() {
    let (gpu, mut rng) = (gpu(), fresh());
    let pairs =
        [(8, 8), (16, 16), (24, 40), (64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (256, 256)];
    let unaligned = [(1, 1), (3, 5), (17, 33), (65, 127), (100, 20), (250, 6)];
    for dtype in DTYPES {
        for (head_dim, value_dim) in pairs.into_iter().chain(unaligned) {
            let q = [2, 2, 70, head_dim];
            let case = Case::random(&mut rng, dtype, q, [2, 2, 130, head_dim], value_dim);
            let case = case.masked(sliding_window::bind(40).unwrap());
            case.check(&gpu, &format!("{dtype} head dims {head_dim} and {value_dim}"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn heads_dims_over_256_are_refused() {
    let (gpu, mut rng) = (gpu(), fresh());
    let case = Case::random(&mut rng, DType::BF16, [1, 1, 16, 264], [1, 1, 16, 264], 264);
    let error = case.on_gpu(&gpu).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Plan(_))), "{error:?}");
    assert!(error.to_string().contains("CPU"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn grouped_heads_and_a_shared_batch() {
    let (gpu, mut rng) = (gpu(), fresh());
    for dtype in DTYPES {
        for (batch, heads, kv_batch, kv_heads) in
            [(2, 8, 2, 8), (2, 8, 2, 4), (2, 6, 2, 2), (1, 8, 1, 1), (3, 4, 1, 2), (3, 1, 1, 1)]
        {
            let q = [batch, heads, 100, 64];
            let case = Case::random(&mut rng, dtype, q, [kv_batch, kv_heads, 150, 64], 64);
            let by_head = score_mod!(|score, b, h, q, kv| score + (h * 3 - b) as f32 * 0.1 * (kv % 3) as f32);
            case.masked(causal::bind().unwrap())
                .scored(by_head)
                .check(&gpu, &format!("{dtype} {heads} heads on {kv_heads}, batch {batch} on {kv_batch}"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn rows_without_keys_give_zero() {
    let (gpu, mut rng) = (gpu(), fresh());
    for dtype in DTYPES {
        let case = Case::random(&mut rng, dtype, [2, 2, 200, 64], [2, 2, 200, 64], 64);
        // Whole tiles, parts of tiles, single rows and a whole head see nothing.
        let holes =
            mask_mod!(|b, h, q, kv| (q < 70 && q % 5 != 0 || q > 190) && kv > 60 && !(b == 1 && h == 0));
        let case = case.masked(holes);
        let computed = case.on_gpu(&gpu).unwrap();
        let masked_rows = computed.lse.iter().enumerate().filter(|(_, lse)| **lse == f32::NEG_INFINITY);
        let mut rows = 0;
        for (row, _) in masked_rows {
            assert!(computed.out[row * 64..][..64].iter().all(|&x| x == 0.0), "{dtype} row {row}");
            assert_eq!(computed.max_scores[row], f32::NEG_INFINITY, "{dtype} row {row}");
            rows += 1;
        }
        assert!(rows > 400, "{dtype}: only {rows} rows are masked");
        computed.check_against(&case.reference(), dtype, dtype.name());
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn views_are_read_in_place() {
    let (gpu, mut rng) = (gpu(), fresh());
    for dtype in DTYPES {
        // [batch, len, heads, head_dim] data, of which parts are used.
        let base = Case::random(&mut rng, dtype, [3, 90, 8, 48], [3, 140, 4, 48], 48);
        let view = |tensor: &Tensor, len| {
            let tensor = tensor.transpose(1, 2).unwrap().narrow(2, 5, len).unwrap();
            tensor.narrow(3, 8, 32).unwrap().narrow(0, 1, 2).unwrap()
        };
        let on_host = Case {
            query: view(&base.query, 80),
            key: view(&base.key, 130),
            value: view(&base.value, 130),
            ..base.clone()
        }
        .masked(causal::bind().unwrap());
        let uploaded = [&base.query, &base.key, &base.value].map(|tensor| tensor.to(&gpu).unwrap());
        let (query, key, value) = (view(&uploaded[0], 80), view(&uploaded[1], 130), view(&uploaded[2], 130));
        let computed = on_host.computed_from(&query, &key, &value, CudaOptions::default()).unwrap();
        computed.check_against(&on_host.reference(), dtype, &format!("{dtype} transposed and narrowed"));

        // Odd offsets, so that no row starts at 16 bytes.
        let odd = |tensor: &Tensor| tensor.narrow(3, 3, 33).unwrap();
        let on_host = Case { query: odd(&base.query), key: odd(&base.key), value: odd(&base.value), ..base };
        let on_host = on_host.clone();
        let [query, key, value] = uploaded.map(|tensor| odd(&tensor));
        let key = key.narrow(1, 0, 90).unwrap();
        let value = value.narrow(1, 0, 90).unwrap();
        let on_host = Case {
            key: on_host.key.narrow(1, 0, 90).unwrap(),
            value: on_host.value.narrow(1, 0, 90).unwrap(),
            ..on_host
        };
        let computed = on_host.computed_from(&query, &key, &value, CudaOptions::default()).unwrap();
        computed.check_against(&on_host.reference(), dtype, &format!("{dtype} unaligned"));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn repeated_dimensions_are_read_in_place() {
    let (gpu, mut rng) = (gpu(), fresh());
    let base = Case::random(&mut rng, DType::BF16, [1, 4, 60, 64], [1, 1, 60, 64], 64);
    let repeat = |tensor: &Tensor| tensor.expand(0, 3).unwrap().expand(1, 2).unwrap();
    let query = |tensor: &Tensor| tensor.expand(0, 3).unwrap();
    let on_host = Case {
        query: query(&base.query),
        key: repeat(&base.key),
        value: repeat(&base.value),
        ..base.clone()
    };
    let [q, k, v] = [&base.query, &base.key, &base.value].map(|tensor| tensor.to(&gpu).unwrap());
    let computed = on_host.computed_from(&query(&q), &repeat(&k), &repeat(&v), CudaOptions::default());
    computed.unwrap().check_against(&on_host.reference(), DType::BF16, "repeated");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn layouts_that_kernels_cannot_use_are_refused() {
    let (gpu, mut rng) = (gpu(), fresh());
    let case = Case::random(&mut rng, DType::F32, [1, 2, 32, 32], [1, 2, 32, 32], 32);
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let turned = k.transpose(2, 3).unwrap();
    let error = flex_attention(&q, &turned, &v).run().unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Layout { tensor: "key", .. })), "{error:?}");

    let mut out = Tensor::zeros(DType::F32, [1, 2, 32, 32]).unwrap().to(&gpu).unwrap();
    let shared = out.clone();
    let error = flex_attention(&q, &k, &v).run_into(&mut out).unwrap_err();
    assert!(matches!(error, Error::Tensor(TensorError::Shared { tensor: "out" })), "{error:?}");
    drop(shared);
    flex_attention(&q, &k, &v).run_into(&mut out).unwrap();

    let mut wrong = Tensor::zeros(DType::F32, [1, 2, 31, 32]).unwrap().to(&gpu).unwrap();
    assert!(matches!(flex_attention(&q, &k, &v).run_into(&mut wrong), Err(Error::Attention(_))));
    let mut on_host = Tensor::zeros(DType::F32, [1, 2, 32, 32]).unwrap();
    let error = flex_attention(&q, &k, &v).run_into(&mut on_host).unwrap_err();
    assert!(matches!(error, Error::DeviceMismatch { tensor: "out", .. }), "{error:?}");
    let error = flex_attention(&q, &case.key, &v).run().unwrap_err();
    assert!(matches!(error, Error::DeviceMismatch { tensor: "key", .. }), "{error:?}");
    let error = flex_attention(&case.query, &k, &v).run().unwrap_err();
    assert!(matches!(error, Error::DeviceMismatch { tensor: "key", .. }), "{error:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn borrowed_memory_on_a_borrowed_stream() {
    let (gpu, mut rng) = (gpu(), fresh());
    let case = Case::random(&mut rng, DType::F16, [2, 3, 77, 64], [2, 3, 99, 64], 64);
    let case = case.masked(causal::bind().unwrap());
    let block_mask = create_block_mask(case.mask.as_ref().unwrap(), case.extent()).unwrap();
    // Our own tensors and stream stand for those of another library.
    let owner = CudaStream::new(CudaDevice::new(0).unwrap()).unwrap();
    // SAFETY: `owner` outlives its double.
    let stream = unsafe { CudaStream::from_raw(owner.device(), owner.as_raw()) }.unwrap();
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let mut out = poisoned(DType::F16, case.out_shape()).to(&gpu).unwrap();
    let borrowed = |tensor: &Tensor| CudaTensorRef::try_from(tensor).unwrap().ptr();
    owner.device().stream().unwrap().synchronize().unwrap();
    let view = |tensor: &Tensor| {
        // SAFETY: the tensors outlive the call and its work; they were written before the synchronisation above.
        unsafe {
            CudaTensorRef::from_raw_parts(
                &stream,
                borrowed(tensor),
                DType::F16,
                tensor.shape(),
                tensor.strides(),
            )
        }
    };
    // SAFETY: as above, and nothing else uses `out` before the synchronisation below.
    let target = unsafe {
        CudaTensorMut::from_raw_parts(&stream, borrowed(&out), DType::F16, out.shape(), out.strides())
    };
    flex_attention(view(&q), view(&k), view(&v)).block_mask(&block_mask).run_into(target).unwrap();
    owner.synchronize().unwrap();
    let expected = case.on_gpu(&gpu).unwrap();
    assert_eq!(out.to_f32_vec().unwrap(), expected.out, "the same kernel on the same values");
    // And the plain call puts its result on the borrowed stream.
    out = flex_attention(view(&q), view(&k), view(&v)).block_mask(&block_mask).run().unwrap();
    assert_eq!(out.to_f32_vec().unwrap(), expected.out);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn tensors_come_back_as_they_went() {
    let (gpu, mut rng) = (gpu(), fresh());
    for dtype in DTYPES {
        let tensor = support::gpu::normal(&mut rng, dtype, [2, 3, 5, 7]);
        let views = [
            tensor.clone(),
            tensor.transpose(1, 2).unwrap(),
            tensor.narrow(2, 1, 3).unwrap(),
            tensor.narrow(1, 2, 1).unwrap().expand(1, 4).unwrap(),
        ];
        for view in views {
            let there = view.to(&gpu).unwrap();
            assert_eq!(there.device(), gpu);
            assert_eq!(there.to_f32_vec().unwrap(), view.to_f32_vec().unwrap());
            let turned = there.transpose(1, 3).unwrap().narrow(3, 0, 1).unwrap();
            let expected = view.transpose(1, 3).unwrap().narrow(3, 0, 1).unwrap();
            assert_eq!(turned.to_f32_vec().unwrap(), expected.to_f32_vec().unwrap());
        }
    }
}
