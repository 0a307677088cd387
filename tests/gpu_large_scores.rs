//! Scores as large as masks that are added make them, and larger: whatever the kernel, they are weighed against each other
//! as the definition says. All scores are exact in f32, so that it is clear what that is.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::cuda::{CudaDevice, CudaOptions, Force, Precision, Template};
use flex_attention::library::{alibi, bias_qk, causal};
use flex_attention::prelude::*;
use flex_attention::{mask_mod, score_mod};
use support::gpu::{Case, Computed, gpu, poisoned};

const HEADS: usize = 2;
const Q_LEN: usize = 150;
const KV_LEN: usize = 213;
/// Rows before this one keep no key by what masks by a large number.
const FIRST_KEPT: i32 = 70;

/// What the components of queries are.
#[derive(Clone, Copy)]
enum Queries {
    /// Small integers, but 0 in the rows that only have masked keys: their scores are what the mod adds.
    ZeroWhereMasked,
    Zero,
    /// −2¹³, 0 and 2¹³, as those of keys are: products are multiples of 2²⁶ up to 4·10⁹.
    Large,
}

fn case(dtype: DType, (head_dim, value_dim): (usize, usize), queries: Queries) -> Case {
    let digit =
        |[_, h, s, d]: [usize; 4], factor: usize| ((h * 5 + s * factor + d * d * 7 + s * d) % 3) as f32 - 1.0;
    let size = if matches!(queries, Queries::Large) { 8192.0 } else { 1.0 };
    // As many components as keep sums within 2³².
    let query = |at: [usize; 4]| match queries {
        Queries::Zero => 0.0,
        Queries::ZeroWhereMasked if (at[2] as i32) < FIRST_KEPT => 0.0,
        _ if at[3] >= 64 => 0.0,
        _ => digit(at, 2) * size,
    };
    let case = Case {
        query: Tensor::from_fn([1, HEADS, Q_LEN, head_dim], query).unwrap(),
        key: Tensor::from_fn([1, HEADS, KV_LEN, head_dim], |at| digit(at, 11) * size).unwrap(),
        value: Tensor::from_fn([1, HEADS, KV_LEN, value_dim], |at| digit(at, 4) + (at[2] % 5) as f32)
            .unwrap(),
        scale: Some(0.125),
        mask: None,
        score: None,
    };
    case.to_dtype(dtype)
}

/// Every way in which large scores come about and reach a kernel; `lines`: also large products beside scores that are lines in
/// the key, which not all kernels take.
fn cases(dtype: DType, dims: (usize, usize), lines: bool) -> Vec<(String, Case)> {
    let of = |queries| case(dtype, dims, queries);
    let mut cases = vec![
        ("products".into(), of(Queries::Large)),
        ("products, causal".into(), of(Queries::Large).masked(causal::bind().unwrap())),
    ];
    if lines {
        let line = || alibi::bind(&[4096.0f32, 16384.0]).unwrap();
        cases.push(("products and a line".into(), of(Queries::Large).scored(line())));
        let masked = of(Queries::Large).masked(causal::bind().unwrap());
        cases.push(("products and a line, causal".into(), masked.scored(line())));
    }
    for size in [-1e36f32, -1e12, -1e10, -1e9, -3e7, 1e10, 1e36] {
        // Of two sizes, so that the larger must be found.
        let bias: Vec<f32> = (0..KV_LEN).map(|kv| size * (1 + kv / 3 % 2) as f32).collect();
        cases.push((
            format!("added {size:e}"),
            of(Queries::Zero).scored(score_mod!(|score, b, h, q, kv| score + bias[kv])),
        ));
        cases.push((
            format!("instead {size:e}"),
            of(Queries::ZeroWhereMasked).scored(score_mod!(|score, b, h, q, kv| if kv > q - FIRST_KEPT {
                size
            } else {
                score
            })),
        ));
        if size.abs() < 1e30 {
            let slopes = [size * 1e-3, size * 2e-3];
            cases.push((
                format!("a line of {size:e}"),
                of(Queries::Zero)
                    .scored(score_mod!(|score, b, h, q, kv| score + slopes[h] * ((kv - q) as f32 + 1024.0))),
            ));
            cases.push((
                format!("times {size:e}"),
                of(Queries::ZeroWhereMasked).scored(score_mod!(|score, b, h, q, kv| {
                    size * (score.clamp(-1.0, 1.0).floor() + 5.0)
                })),
            ));
        }
    }
    cases.push(("a table".into(), with_table(of(Queries::ZeroWhereMasked), -1e10)));
    cases
}

/// Adds `low` to what the first rows have of all keys, and later ones of later keys.
fn with_table(case: Case, low: f32) -> Case {
    let bias = |i: usize| if (i % KV_LEN) as i32 > (i / KV_LEN) as i32 - FIRST_KEPT { low } else { 0.0 };
    let table: Vec<f32> = (0..Q_LEN * KV_LEN).map(bias).collect();
    case.scored(bias_qk::bind(View::new(&table, [Q_LEN, KV_LEN]).unwrap()).unwrap())
}

const PORTABLE: (Template, &[DType]) = (Template::ForwardPortable, &[DType::F32, DType::F16, DType::BF16]);
const HOPPER: (Template, &[DType]) = (Template::ForwardSm90, &[DType::F16, DType::BF16]);

/// A test for each kernel and head dims, which can run side by side.
macro_rules! weighs_large_scores {
    ($($name:ident: $kernel:ident, $head_dim:literal, $value_dim:literal;)*) => {
        $(
            #[test]
            #[ignore = "needs an NVIDIA GPU"]
            fn $name() {
                check_kernel($kernel, ($head_dim, $value_dim));
            }
        )*
    };
}

weighs_large_scores! {
    portable_at_head_dim_64: PORTABLE, 64, 64;
    portable_at_head_dim_128: PORTABLE, 128, 128;
    portable_at_head_dim_256: PORTABLE, 256, 256;
    hopper_at_head_dim_64: HOPPER, 64, 64;
    hopper_at_head_dim_128: HOPPER, 128, 128;
    hopper_at_head_dims_192_and_128: HOPPER, 192, 128;
    hopper_at_head_dim_256: HOPPER, 256, 256;
}

fn check_kernel((template, dtypes): (Template, &[DType]), dims: (usize, usize)) {
    let gpu = gpu();
    if template == Template::ForwardSm90 && !CudaDevice::new(0).unwrap().arch().is_hopper() {
        return println!("SKIPPED: the GPU is no Hopper");
    }
    let run = |case: &Case, precision| {
        let force = Force { template: Some(template), ..Force::default() };
        case.on_gpu_with(&gpu, CudaOptions { precision: Some(precision), force, ..CudaOptions::default() })
            .unwrap()
    };
    let check = |dtype: DType, precision: Precision| {
        for (name, case) in cases(dtype, dims, template == Template::ForwardPortable) {
            let what = format!("{template:?}, {dtype}, head dims {dims:?}, {precision:?}: {name}");
            run(&case, precision).check_against(&case.reference(), dtype, &what);
        }
        let hidden = run(&with_table(case(dtype, dims, Queries::ZeroWhereMasked), f32::MIN), precision);
        let masked = case(dtype, dims, Queries::ZeroWhereMasked)
            .masked(mask_mod!(|b, h, q, kv| kv <= q - FIRST_KEPT))
            .reference();
        hidden.check_against(&masked, dtype, &format!("{template:?}, {dtype}: hidden by the lowest number"));
    };
    // Side by side, because most of the time goes to compiling; both precisions at the smallest head dims.
    let alone = std::env::args().any(|argument| argument == "--test-threads=1");
    std::thread::scope(|scope| {
        for (i, &dtype) in dtypes.iter().enumerate() {
            let accurate = (dims == (64, 64)).then_some(Precision::Accurate);
            let fast = (accurate.is_some() || i == dims.0 / 64 % dtypes.len()).then_some(Precision::Fast);
            for precision in fast.into_iter().chain(accurate) {
                let check = &check;
                let thread = scope.spawn(move || check(dtype, precision));
                if alone && let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    });
}

#[test]
fn the_cpu_agrees() {
    for dtype in [DType::F32, DType::BF16] {
        for (name, case) in cases(dtype, (64, 64), true) {
            let per_row = [1, HEADS, Q_LEN, 1];
            let [mut lse, mut max_scores] = [per_row; 2].map(|shape| poisoned(DType::F32, shape));
            let mut out = poisoned(dtype, case.out_shape());
            let mask = case.mask.as_ref().map(|mask| create_block_mask(mask, case.extent()).unwrap());
            let mut call = flex_attention(&case.query, &case.key, &case.value).scale(case.scale.unwrap());
            if let Some(score) = &case.score {
                call = call.score_mod(score);
            }
            if let Some(mask) = &mask {
                call = call.block_mask(mask);
            }
            call.run_into_with(&mut out, Some(&mut lse), Some(&mut max_scores)).unwrap();
            let [out, lse, max_scores] = [out, lse, max_scores].map(|tensor| tensor.to_f32_vec().unwrap());
            let computed = Computed { out, lse, max_scores };
            computed.check_against(&case.reference(), dtype, &format!("{dtype}: {name}"));
        }
    }
}
