//! Block masks whose undecided tiles are judged on a GPU: the same as those that the host builds alone.
#![cfg(feature = "cuda")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flex_attention::cuda::{CudaArray, CudaDevice, CudaError, CudaTensorRef};
use flex_attention::library::{document, natten};
use flex_attention::prelude::*;
use flex_attention::{Error, mask_mod};
use flex_core::mask::MaskError;
use flex_core::testing::{self, ExprConfig};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use support::gpu::gpu;

fn device() -> CudaDevice {
    gpu();
    CudaDevice::new(0).unwrap()
}

fn options(q: usize, kv: usize) -> BlockMaskOptions {
    BlockMaskOptions { block_size: BlockSize { q, kv }, ..BlockMaskOptions::default() }
}

/// Builds on both sides, and returns how many tiles the GPU judged.
#[track_caller]
fn compare(mask: &MaskMod, extent: Extent, options: BlockMaskOptions) -> usize {
    let on_host = BlockMask::builder(mask).options(options).build(extent);
    let on_gpu = device().create_block_mask_with(mask, extent, options).map_err(|error| match error {
        Error::Mask(error) => error,
        other => panic!("{other}"),
    });
    let what =
        || format!("{} with {:?} over {extent:?}, {options:?}", mask.bound().expr(), mask.bound().captures());
    assert!(on_gpu == on_host, "{}\non the GPU {on_gpu:?}\non the host {on_host:?}", what());
    BlockMask::builder(mask).options(options).survey(extent).unwrap().open_count()
}

fn hash(x: u32) -> u32 {
    (x ^ 0x9e37).wrapping_mul(2654435761) >> 7
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn random_masks() {
    // Side by side, because most of the time goes to compiling.
    let (judged, faults) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut runner = TestRunner::default();
    let strategy = testing::masks(ExprConfig::mask().exact());
    let masks: Vec<MaskMod> =
        (0..testing::cases(96)).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    std::thread::scope(|scope| {
        for masks in masks.chunks(masks.len().div_ceil(8)) {
            let (judged, faults) = (&judged, &faults);
            scope.spawn(move || {
                for (i, mask) in masks.iter().enumerate() {
                    let extent = Extent { batch: 2, heads: 3, q_len: 61, kv_len: 177 };
                    let options = options([1, 5, 16, 64][i % 4], [33, 128, 7, 200][i % 4]);
                    judged.fetch_add(compare(mask, extent, options), Ordering::Relaxed);
                    let faulty = BlockMask::builder(mask).build(extent).is_err();
                    faults.fetch_add(faulty.into(), Ordering::Relaxed);
                }
            });
        }
    });
    let (judged, faults) = (judged.into_inner(), faults.into_inner());
    println!("{} random masks, {faults} with faults: {judged} tiles judged on the GPU", masks.len());
    let enough = judged > 10 * masks.len() && faults > 0 && faults < masks.len();
    assert!(enough || masks.len() < 96, "too little is compared");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn tiles_of_all_sizes_at_the_ends_of_sequences() {
    let group: Vec<i32> = (0..1000).map(|i| (hash(i) % 40) as i32).collect();
    let mask = mask_mod!(|b, h, q, kv| group[q] == group[kv] + h || q * 3 + b == kv);
    for len in [1, 31, 32, 33, 127, 129, 500, 1000] {
        for (q, kv) in [(1, 1), (2, 100), (128, 128), (77, 33), (1000, 31), (300, 5000)] {
            let extent = Extent { batch: 2, heads: 2, q_len: len, kv_len: 1001 - len };
            compare(&mask, extent, options(q, kv));
        }
    }
    // More tiles than go into a launch.
    let number: Vec<u32> = (0..4096).map(hash).collect();
    let mask = mask_mod!(|b, h, q, kv| (number[q] ^ number[kv]) & 1 == 0);
    let extent = Extent { batch: 1, heads: 1, q_len: 4096, kv_len: 4096 };
    assert!(compare(&mask, extent, options(2, 3)) > 1 << 20);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn captures_of_every_kind() {
    let kept: Vec<bool> = (0..2 * 90 * 70).map(|i| hash(i).is_multiple_of(19)).collect();
    let table = View::new(&kept, [2, 90, 70]).unwrap();
    let in_table = mask_mod!(|b, h, q, kv| table[[h, q, kv]]);
    let weight: Vec<f32> = (0..90).map(|i| hash(i) as f32 / 1e6 - 3.0).collect();
    let level = 2.5f32;
    let by_weight = mask_mod!(|b, h, q, kv| weight[q] * weight[kv] > level);
    let doc: Vec<i32> = (0..90).map(|i| (hash(i) % 4) as i32).collect();
    for mask in [in_table, by_weight, document::bind(&doc).unwrap(), natten::bind(9, 10, 3).unwrap()] {
        let extent = Extent { batch: 1, heads: 2, q_len: 90, kv_len: 70 };
        compare(&mask, extent, options(16, 16));
        compare(&!&mask, extent, options(7, 64));
    }
    compare(&MaskMod::all(), Extent { batch: 1, heads: 1, q_len: 300, kv_len: 1 }, options(128, 128));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn faults_are_those_of_the_host() {
    let short: Vec<i32> = (0..400).map(|i| (hash(i) % 7) as i32).collect();
    let mask = mask_mod!(|b, h, q, kv| short[q] == short[kv]);
    let extent = Extent { batch: 1, heads: 1, q_len: 400, kv_len: 401 };
    compare(&mask, extent, options(64, 64));
    let error = device().create_block_mask(&mask, extent).unwrap_err();
    assert!(matches!(error, Error::Mask(MaskError::Fault(_))), "{error:?}");
    assert!(error.to_string().contains("short") && error.to_string().contains("400"), "{error}");
    // A guard makes it whole, and the device goes on.
    let guarded = mask_mod!(|b, h, q, kv| kv < short.len() && short[q] == short[kv]);
    compare(&guarded, extent, options(64, 64));
}

/// Captures in device memory of another library are read where they lie, by calls and by the judging of tiles.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn arrays_that_are_on_the_gpu_stay_there() {
    let gpu = gpu();
    let len = if testing::cases(100) < 100 { 1000 } else { 9000 };
    let group: Vec<i32> = (0..len as u32).map(|i| (hash(i) % 50) as i32).collect();
    // A tensor of any numbers stands for the memory of another library.
    let bits = |[_, _, _, i]: [usize; 4]| f32::from_bits(group[i] as u32);
    let memory = Tensor::from_fn([1, 1, 1, len], bits).unwrap().to(&gpu).unwrap();
    let ptr = CudaTensorRef::try_from(&memory).unwrap().ptr();
    device().stream().unwrap().synchronize().unwrap();
    // SAFETY: the memory lives to the end of the test and is not written again.
    let array = unsafe { CudaArray::<i32, 1>::from_raw_parts(device(), ptr, [len]) }.unwrap();
    let there = document::bind(&array).unwrap();
    let here = document::bind(&group).unwrap();
    let extent = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
    let block_mask = device().create_block_mask(&there, extent).unwrap();
    assert!(block_mask == create_block_mask(&here, extent).unwrap());

    let x = Tensor::from_fn([1, 1, len, 64], |[_, _, s, d]| {
        (hash((s * 64 + d) as u32) % 100) as f32 / 50.0 - 1.0
    });
    let x = x.unwrap().to(&gpu).unwrap();
    let attend =
        |mask: &MaskMod| flex_attention(&x, &x, &x).mask_mod(mask).run().unwrap().to_f32_vec().unwrap();
    let expected = attend(&here);
    assert_eq!(attend(&there), expected);
    // A trim gives up what is ours, and that memory is not.
    device().trim().unwrap();
    assert_eq!(attend(&there), expected);
    assert_eq!(memory.to_vec::<f32>().unwrap()[7].to_bits(), group[7] as u32);

    // SAFETY: refused before anything is read.
    let error = unsafe { CudaArray::<i32, 1>::from_raw_parts(device(), ptr + 1, [4]) }.unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::Misaligned { .. })), "{error:?}");
    // SAFETY: as above.
    let error = unsafe { CudaArray::<i32, 2>::from_raw_parts(device(), ptr, [1 << 31, 1]) }.unwrap_err();
    assert!(matches!(error, Error::View(ViewError::TooLarge { .. })), "{error:?}");
}

/// Elements a second where every one has to be looked at: nothing is kept, and the analysis cannot know.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_mask_that_keeps_nothing_and_does_not_say_so() {
    let len = if testing::cases(100) < 100 { 512 } else { 32768 };
    let even: Vec<u32> = (0..len as u32).map(|i| hash(i) & !1).collect();
    let mask = mask_mod!(|b, h, q, kv| (even[q] ^ even[kv]) == 1);
    let extent = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
    let device = device();
    let build = || device.create_block_mask(&mask, extent).unwrap();
    assert_eq!(build().sparsity(), 100.0);
    let seconds = |run: &dyn Fn()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let on_gpu = (0..5).map(|_| seconds(&|| drop(build()))).fold(f64::INFINITY, f64::min);
    let on_host = seconds(&|| drop(create_block_mask(&mask, extent).unwrap()));
    let elements = (len * len) as f64;
    println!(
        "block mask of {len}×{len} undecided elements: {:.2} ms with the GPU ({:.0} G elements/s), {:.1} ms on the host \
         ({:.1} G elements/s)",
        on_gpu * 1e3,
        elements / on_gpu / 1e9,
        on_host * 1e3,
        elements / on_host / 1e9
    );
}

/// A call with a mask and no block mask builds it where that is faster; both ways give the same.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn calls_without_tiles_build_them() {
    let gpu = gpu();
    let len = if testing::cases(100) < 100 { 1000 } else { 9000 };
    let group: Vec<i32> = (0..len as u32).map(|i| (hash(i) % 50) as i32).collect();
    let mask = mask_mod!(|b, h, q, kv| group[q] == group[kv]);
    let x = Tensor::from_fn([1, 1, len, 64], |[_, _, s, d]| {
        (hash((s * 64 + d) as u32) % 100) as f32 / 50.0 - 1.0
    });
    let x = x.unwrap().to_dtype(DType::BF16).unwrap().to(&gpu).unwrap();
    let extent = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
    let block_mask = create_block_mask(&mask, extent).unwrap();
    let by_tiles = flex_attention(&x, &x, &x).block_mask(&block_mask).run().unwrap();
    let by_mod = flex_attention(&x, &x, &x).mask_mod(&mask).run().unwrap();
    assert_eq!(by_tiles.to_f32_vec().unwrap(), by_mod.to_f32_vec().unwrap());
}
