//! Random calls of the public entry points: a result that keeps its promises or an error with a message, never a panic.

use std::cell::Cell;

use flex_attention::prelude::*;
use flex_attention::tensor::{Elements, TensorRef};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[mask_mod]
fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

#[mask_mod]
fn every_nth(b: i32, h: i32, q: i32, kv: i32, n: i32) -> bool {
    (q + kv + h) % n == 0
}

#[mask_mod]
fn window(b: i32, h: i32, q: i32, kv: i32, width: i32) -> bool {
    q >= kv && q - kv <= width
}

#[score_mod]
fn biased(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 2>, gain: f32) -> f32 {
    score * gain + bias[[b, q - kv + 8]]
}

/// A dimension: mostly small and usable, at times 0 or far too large.
fn dimension() -> impl Strategy<Value = usize> {
    prop_oneof![60 => 1usize..7, 10 => 7usize..40, 1 => Just(0), 1 => Just(1 << 31), 1 => Just(usize::MAX)]
}

fn dtype() -> impl Strategy<Value = DType> {
    prop_oneof![6 => Just(DType::F32), 1 => Just(DType::F16), 1 => Just(DType::BF16)]
}

/// What is done to one of the tensors of a call.
#[derive(Clone, Debug)]
enum Change {
    Dimension { tensor: usize, axis: usize, len: usize },
    DType { tensor: usize, dtype: DType },
    Transpose { tensor: usize, first: usize, second: usize },
    Narrow { tensor: usize, axis: usize, start: usize, len: usize },
    Expand { tensor: usize, axis: usize, len: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let tensor = 0usize..3;
    let axis = 0usize..5;
    prop_oneof![
        (tensor.clone(), 0usize..4, dimension()).prop_map(|(tensor, axis, len)| Change::Dimension {
            tensor,
            axis,
            len
        }),
        (tensor.clone(), dtype()).prop_map(|(tensor, dtype)| Change::DType { tensor, dtype }),
        (tensor.clone(), axis.clone(), axis.clone()).prop_map(|(tensor, first, second)| Change::Transpose {
            tensor,
            first,
            second
        }),
        (tensor.clone(), axis.clone(), dimension(), dimension())
            .prop_map(|(tensor, axis, start, len)| Change::Narrow { tensor, axis, start, len }),
        (tensor, axis, 0usize..4).prop_map(|(tensor, axis, len)| Change::Expand { tensor, axis, len }),
    ]
}

#[derive(Clone, Debug)]
enum Mask {
    None,
    All,
    Window(i32),
    EveryNth(i32),
    Document(Vec<i32>),
    Not(Box<Mask>),
    Both(Box<Mask>, Box<Mask>),
    ShiftQ(Box<Mask>, i32),
}

fn mask() -> impl Strategy<Value = Mask> {
    let leaf = prop_oneof![
        Just(Mask::All),
        (-3i32..40).prop_map(Mask::Window),
        prop_oneof![4 => 1i32..5, 1 => Just(0), 1 => Just(i32::MIN)].prop_map(Mask::EveryNth),
        prop::collection::vec(0i32..3, 0..50).prop_map(Mask::Document),
    ];
    let mask = leaf.prop_recursive(3, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|m| Mask::Not(m.into())),
            (inner.clone(), inner.clone()).prop_map(|(m, n)| Mask::Both(m.into(), n.into())),
            (inner, prop_oneof![-9i32..9, Just(i32::MAX)]).prop_map(|(m, by)| Mask::ShiftQ(m.into(), by)),
        ]
    });
    prop_oneof![1 => Just(Mask::None), 4 => mask]
}

impl Mask {
    fn bind(&self) -> Option<MaskMod> {
        Some(match self {
            Self::None => return None,
            Self::All => MaskMod::all(),
            Self::Window(width) => window::bind(*width).unwrap(),
            Self::EveryNth(n) => every_nth::bind(*n).unwrap(),
            Self::Document(doc) => document::bind(doc).unwrap(),
            Self::Not(m) => !m.bind()?,
            Self::Both(m, n) => m.bind()? & n.bind()?,
            Self::ShiftQ(m, by) => m.bind()?.shift_q(*by),
        })
    }
}

#[derive(Clone, Debug)]
struct Call {
    batch: usize,
    kv_heads: usize,
    group: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
    value_dim: usize,
    dtype: DType,
    changes: Vec<Change>,
    mask: Mask,
    /// The lengths that the block mask is built for, where they are not the tensors'.
    mask_extent: Option<[usize; 4]>,
    block: (usize, usize),
    with_block_mask: bool,
    bias: Option<([usize; 2], f32)>,
    scale: Option<f32>,
    threads: Option<usize>,
}

fn call() -> impl Strategy<Value = Call> {
    let sizes = (1usize..3, 1usize..3, 1usize..4, 1usize..40, 1usize..40, 1usize..20, 1usize..20);
    let mods = (
        mask(),
        prop::option::weighted(0.1, prop::array::uniform4(dimension())),
        (prop_oneof![9 => 1usize..20, 1 => dimension()], 1usize..20),
        any::<bool>(),
        prop::option::weighted(0.4, ([1usize..4, 30usize..60], prop_oneof![-2f32..2f32, Just(f32::NAN)])),
    );
    let options = (
        dtype(),
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(change(), 1..3)],
        prop::option::weighted(0.3, prop_oneof![6 => -2f32..2f32, 1 => Just(f32::INFINITY)]),
        prop::option::weighted(0.2, 0usize..4),
    );
    (sizes, mods, options).prop_map(|(sizes, mods, options)| {
        let (batch, kv_heads, group, q_len, kv_len, head_dim, value_dim) = sizes;
        let (mask, mask_extent, block, with_block_mask, bias) = mods;
        let (dtype, changes, scale, threads) = options;
        Call {
            batch,
            kv_heads,
            group,
            q_len,
            kv_len,
            head_dim,
            value_dim,
            dtype,
            changes,
            mask,
            mask_extent,
            block,
            with_block_mask,
            bias,
            scale,
            threads,
        }
    })
}

impl Call {
    fn run(&self) -> Result<(Output, [usize; 4]), flex_attention::Error> {
        let &Self { batch, kv_heads, group, q_len, kv_len, head_dim, value_dim, dtype, .. } = self;
        let mut shapes = [
            [batch, kv_heads * group, q_len, head_dim],
            [batch, kv_heads, kv_len, head_dim],
            [batch, kv_heads, kv_len, value_dim],
        ];
        for change in &self.changes {
            if let Change::Dimension { tensor, axis, len } = *change {
                shapes[tensor][axis] = len;
            }
        }
        let mut tensors = Vec::new();
        for shape in shapes {
            let element = |[b, h, s, d]: [usize; 4]| ((b + 3 * h + 5 * s + 7 * d) as f32 * 0.37).sin();
            tensors.push(Tensor::from_fn(shape, element)?.to_dtype(dtype)?);
        }
        for change in &self.changes {
            match *change {
                Change::Dimension { .. } => {}
                Change::DType { tensor, dtype } => tensors[tensor] = tensors[tensor].to_dtype(dtype)?,
                Change::Transpose { tensor, first, second } => {
                    tensors[tensor] = tensors[tensor].transpose(first, second)?;
                }
                Change::Narrow { tensor, axis, start, len } => {
                    tensors[tensor] = tensors[tensor].narrow(axis, start, len)?;
                }
                Change::Expand { tensor, axis, len } => {
                    tensors[tensor] = tensors[tensor].expand(axis, len)?
                }
            }
        }
        let [query, key, value] = &tensors[..] else { unreachable!("three shapes") };

        let mask = self.mask.bind();
        let [batch, heads, q_len, _] = query.shape();
        let extent = self.mask_extent.unwrap_or([batch, heads, q_len, key.shape()[2]]);
        let [batch, heads, q_len, kv_len] = extent;
        let extent = Extent { batch, heads, q_len, kv_len };
        let block_mask = match &mask {
            Some(mask) if self.with_block_mask => {
                Some(BlockMask::builder(mask).block_size(self.block).build(extent)?)
            }
            _ => None,
        };
        let bias = match self.bias {
            Some(([rows, columns], gain)) => {
                let table: Vec<f32> = (0..rows * columns).map(|i| (i as f32).cos()).collect();
                Some(biased::bind(View::new(&table, [rows, columns])?, gain)?)
            }
            None => None,
        };
        let mut call = flex_attention(query, key, value);
        if let Some(mask) = &mask {
            call = call.mask_mod(mask);
        }
        if let Some(block_mask) = &block_mask {
            call = call.block_mask(block_mask);
        }
        if let Some(bias) = &bias {
            call = call.score_mod(bias);
        }
        if let Some(scale) = self.scale {
            call = call.scale(scale);
        }
        if let Some(threads) = self.threads {
            call = call.threads(threads);
        }
        let output = call.run_with(Aux::LSE | Aux::MAX_SCORES)?;
        let [batch, heads, q_len, _] = query.shape();
        Ok((output, [batch, heads, q_len, value.shape()[3]]))
    }
}

#[test]
fn random_calls_never_panic() {
    const CALLS: u32 = 20_000;
    let (computed, rejected) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: CALLS, failure_persistence: None, ..Config::default() });
    runner
        .run(&call(), |call| {
            match call.run() {
                Ok((output, shape)) => {
                    computed.set(computed.get() + 1);
                    prop_assert_eq!(output.out.shape(), shape);
                    let nan_expected = call.bias.is_some_and(|(_, gain)| gain.is_nan());
                    let finite = output.out.to_f32_vec().unwrap().iter().all(|x| x.is_finite());
                    prop_assert!(finite || nan_expected, "a number that is not finite");
                    let rows = [shape[0], shape[1], shape[2], 1];
                    prop_assert_eq!(output.lse.map(|x| x.shape()), Some(rows));
                    prop_assert_eq!(output.max_scores.map(|x| x.shape()), Some(rows));
                }
                Err(error) => {
                    rejected.set(rejected.get() + 1);
                    prop_assert!(error.to_string().len() > 20, "a message that says little: {}", error);
                }
            }
            Ok(())
        })
        .unwrap();
    // Both ends of a call must have been met often for this test to mean something.
    assert!(computed.get() > CALLS / 4, "only {} calls computed", computed.get());
    assert!(rejected.get() > CALLS / 10, "only {} calls were rejected", rejected.get());
}

#[test]
fn random_borrowed_memory_never_panics() {
    let shapes = prop::array::uniform4(dimension());
    let strides = prop::array::uniform4(prop_oneof![20 => 0usize..60, 1 => dimension()]);
    let lengths = prop_oneof![0usize..64, 64usize..20_000];
    let mut runner = TestRunner::new(Config { cases: 5_000, failure_persistence: None, ..Config::default() });
    let (usable, rejected) = (Cell::new(0), Cell::new(0));
    runner
        .run(&(shapes, strides, lengths), |(shape, strides, len)| {
            let data = vec![0.25f32; len];
            match TensorRef::new("query", Elements::F32(&data), shape, strides) {
                Ok(x) => {
                    usable.set(usable.get() + 1);
                    let out = flex_attention(x, x, x).run().unwrap();
                    // Every value is 0.25, so every mean of values is.
                    prop_assert!(out.to_f32_vec().unwrap().iter().all(|&y| (y - 0.25).abs() < 1e-6));
                }
                Err(error) => {
                    rejected.set(rejected.get() + 1);
                    prop_assert!(error.to_string().contains("query"));
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(
        usable.get() > 500 && rejected.get() > 500,
        "{} usable, {} rejected",
        usable.get(),
        rejected.get()
    );
}
