//! Every kernel by itself on the same problems, whichever a call would choose: it agrees with the definition, and gives
//! the same bits in every run.
#![cfg(feature = "cuda")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use flex_attention::cuda::{CudaDevice, CudaOptions, CudaStream, Force, Precision, Template};
use flex_attention::library::{
    alibi, causal, document_causal, natten, relative_bias, sliding_window, softcap,
};
use flex_attention::prelude::*;
use flex_attention::{mask_mod, score_mod};
use flex_core::testing;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, gpu};

/// A kernel, and the dtypes and head dims that it serves.
struct Kernel {
    template: Template,
    dtypes: &'static [DType],
    /// Of query and key, and of value.
    head_dims: &'static [(usize, usize)],
}

const PORTABLE: Kernel = Kernel {
    template: Template::ForwardPortable,
    dtypes: &[DType::F32, DType::F16, DType::BF16],
    head_dims: &[(64, 64), (128, 128), (40, 72), (256, 256), (33, 17)],
};
const HOPPER: Kernel = Kernel {
    template: Template::ForwardSm90,
    dtypes: &[DType::F16, DType::BF16],
    head_dims: &[(64, 64), (128, 128), (192, 128), (256, 256)],
};

fn is_hopper() -> bool {
    gpu();
    CudaDevice::new(0).unwrap().arch().is_hopper()
}

/// Mods compute as Rust does, so that all that is left is the kernel's own error.
fn options(kernel: &Kernel) -> CudaOptions<'static> {
    let force = Force { template: Some(kernel.template), ..Force::default() };
    CudaOptions { force, precision: Some(Precision::Accurate), ..CudaOptions::default() }
}

const LEN: usize = 289;
const HEADS: usize = 4;

/// Of the cases, those that are taken at every head dim: no mask, and one of each path of masks and scores.
const EVERYWHERE: [&str; 4] = ["dense", "bounds from a table", "mask by element", "score by element"];

/// One case for every way in which mods reach a kernel.
fn cases(rng: &mut StdRng, dtype: DType, (head_dim, value_dim): (usize, usize)) -> Vec<(&'static str, Case)> {
    let base = Case::random(rng, dtype, [1, HEADS, LEN, head_dim], [1, 2, LEN, head_dim], value_dim);
    let cross = Case::random(rng, dtype, [2, HEADS, 70, head_dim], [2, HEADS, 213, head_dim], value_dim);
    let doc: Vec<i32> = (0..LEN as i32).map(|i| i / 75).collect();
    let mixed: Vec<i32> = (0..LEN as i32).map(|i| i * 7 % 5).collect();
    let bias: Vec<f32> = (0..2 * LEN - 1).map(|i| (i % 17) as f32 * 0.25).collect();
    let short = vec![0.5f32; LEN - 10];
    let slopes = [0.5f32, 0.25, 0.125, 0.0625];
    vec![
        ("dense", base.clone()),
        ("dense across", cross.clone()),
        ("bounds of the row", base.clone().masked(sliding_window::bind(40).unwrap())),
        ("bounds from a table", base.clone().masked(document_causal::bind(doc).unwrap())),
        (
            "mask by element",
            base.clone().masked(mask_mod!(|b, h, q, kv| mixed[q] == mixed[kv] || kv == q + h)),
        ),
        ("divisions", base.clone().masked(natten::bind(17, 17, 5).unwrap())),
        (
            "line in the key",
            base.clone().masked(causal::bind().unwrap()).scored(alibi::bind(&slopes).unwrap()),
        ),
        (
            "score by element",
            base.clone().masked(causal::bind().unwrap()).scored(softcap::bind(20.0).unwrap()),
        ),
        ("loads", base.clone().scored(relative_bias::bind(bias, LEN as i32 - 1).unwrap())),
        (
            "guarded loads",
            base.scored(score_mod!(|score, b, h, q, kv| if kv < short.len() {
                score + short[kv]
            } else {
                score
            })),
        ),
        ("rows without keys", cross.masked(mask_mod!(|b, h, q, kv| q > 9 && kv > q + 100))),
    ]
}

/// A test for each head dim of a kernel: under a sanitizer they take minutes each, and can run side by side.
macro_rules! agrees_with_the_definition_and_with_itself {
    ($kernel:ident: $($name:ident = $index:literal),* $(,)?) => {
        $(
            #[test]
            #[ignore = "needs an NVIDIA GPU"]
            fn $name() {
                check_kernel(&$kernel, $index);
            }
        )*
    };
}

agrees_with_the_definition_and_with_itself! {
    PORTABLE:
    portable_at_head_dim_64 = 0,
    portable_at_head_dim_128 = 1,
    portable_at_head_dims_40_and_72 = 2,
    portable_at_head_dim_256 = 3,
    portable_at_head_dims_33_and_17 = 4,
}

agrees_with_the_definition_and_with_itself! {
    HOPPER:
    hopper_at_head_dim_64 = 0,
    hopper_at_head_dim_128 = 1,
    hopper_at_head_dims_192_and_128 = 2,
    hopper_at_head_dim_256 = 3,
}

/// Every case and dtype at the first head dims; at the others one dtype, and what is in [`EVERYWHERE`].
fn check_kernel(kernel: &Kernel, index: usize) {
    if kernel.template == Template::ForwardSm90 && !is_hopper() {
        return println!("SKIPPED: the GPU is no Hopper");
    }
    let gpu = gpu();
    let compared = AtomicUsize::new(0);
    let dims = kernel.head_dims[index];
    let check_cases = |dtype: DType| {
        for (name, case) in cases(&mut StdRng::seed_from_u64(index as u64), dtype, dims) {
            if index == 0 || EVERYWHERE.contains(&name) {
                check(
                    &gpu,
                    kernel,
                    &case,
                    &format!("{:?}, {dtype}, head dims {dims:?}: {name}", kernel.template),
                );
                compared.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    // Side by side, because most of the time goes to compiling; one after the other where tests run so.
    let alone = std::env::args().any(|argument| argument == "--test-threads=1");
    std::thread::scope(|scope| {
        for (i, &dtype) in kernel.dtypes.iter().enumerate() {
            if index == 0 || i == index % kernel.dtypes.len() {
                let check_cases = &check_cases;
                let thread = scope.spawn(move || check_cases(dtype));
                if alone && let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    });
    let compared = compared.into_inner();
    println!("{:?}, head dims {dims:?}: {compared} cases, the same bits in every run", kernel.template);
}

fn check(gpu: &Device, kernel: &Kernel, case: &Case, what: &str) {
    let run = || case.on_gpu_with(gpu, options(kernel)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let first = run();
    first.check_against(&case.reference(), case.query.dtype(), what);
    for _ in 0..testing::cases(5) {
        assert_eq!(run(), first, "{what}: other bits in another run");
    }
}

/// The order in which a persistent kernel's blocks draw their work is another in every launch, and must not show.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_busy_gpu_computes_the_same_bits() {
    let gpu = gpu();
    let device = CudaDevice::new(0).unwrap();
    let mut rng = StdRng::seed_from_u64(21);
    let len = if testing::cases(100) < 100 { 500 } else { 1500 };
    let case = Case::random(&mut rng, DType::BF16, [2, 16, len, 64], [2, 4, len, 64], 64);
    let mask = create_block_mask(&causal::bind().unwrap(), case.extent()).unwrap();
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    for kernel in if is_hopper() { vec![PORTABLE, HOPPER] } else { vec![PORTABLE] } {
        let run = |stream: &CudaStream| {
            let options = CudaOptions { stream: Some(stream), ..options(&kernel) };
            flex_attention(&q, &k, &v).block_mask(&mask).cuda(options).run().unwrap()
        };
        let first = run(device.stream().unwrap()).to_f32_vec().unwrap();
        let streams = [CudaStream::new(device).unwrap(), CudaStream::new(device).unwrap()];
        for round in 0..testing::cases(20) {
            // Side by side on two streams.
            let outputs = [run(&streams[0]), run(&streams[1]), run(&streams[0]), run(&streams[1])];
            for out in outputs {
                assert_eq!(out.to_f32_vec().unwrap(), first, "{:?} in round {round}", kernel.template);
            }
        }
    }
}
