//! What the CPU backend asks of the allocator: nothing once it is warm, and little before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use flex_core::attention::{DType, Elements, ElementsMut, Problem, TensorRef};
use flex_core::capture::{Capture, CaptureValue, IntoArray};
use flex_core::cpu::{CpuOptions, attention};
use flex_core::ir::{BinaryOp, Builder, Input, Type};
use flex_core::mask::{BlockMask, Extent, create_block_mask};
use flex_core::mods::{MaskMod, ScoreMod};
use half::bf16;

/// Counts what all threads of this process ask for.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// A call with its inputs and its output, in both dtypes.
struct Call {
    name: &'static str,
    dtype: DType,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    bf16: [Vec<bf16>; 3],
    query_shape: [usize; 4],
    key_shape: [usize; 4],
    mask: Option<BlockMask>,
    score: Option<ScoreMod>,
    out: Vec<f32>,
    out_bf16: Vec<bf16>,
    lse: Vec<f32>,
}

impl Call {
    fn new(
        name: &'static str,
        dtype: DType,
        [heads, kv_heads, q_len, kv_len, head_dim]: [usize; 5],
        mask: Option<MaskMod>,
        score: Option<ScoreMod>,
    ) -> Self {
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * step) % 1009) as f32 / 504.5 - 1.0).collect()
        };
        let (query_shape, key_shape) = ([1, heads, q_len, head_dim], [1, kv_heads, kv_len, head_dim]);
        let (queries, keys) = (query_shape.iter().product(), key_shape.iter().product());
        let (query, key, value) = (numbers(queries, 7), numbers(keys, 11), numbers(keys, 13));
        let narrow = |x: &Vec<f32>| x.iter().map(|x| bf16::from_f32(*x)).collect();
        let extent = Extent { batch: 1, heads, q_len, kv_len };
        Self {
            name,
            dtype,
            bf16: [&query, &key, &value].map(narrow),
            out: vec![0.0; query.len()],
            out_bf16: vec![bf16::ZERO; query.len()],
            lse: vec![0.0; heads * q_len],
            mask: mask.map(|mask| create_block_mask(&mask, extent).unwrap()),
            query,
            key,
            value,
            query_shape,
            key_shape,
            score,
        }
    }

    /// The same queries of so many sequences that share keys and values.
    fn of_sequences(self, batch: usize) -> Self {
        let [query, key, value] = self.bf16;
        Self {
            query_shape: [batch, self.query_shape[1], self.query_shape[2], self.query_shape[3]],
            query: self.query.repeat(batch),
            bf16: [query.repeat(batch), key, value],
            out: self.out.repeat(batch),
            out_bf16: self.out_bf16.repeat(batch),
            lse: self.lse.repeat(batch),
            ..self
        }
    }

    fn run(&mut self, threads: Option<usize>) {
        let [query, key, value] = match self.dtype {
            DType::BF16 => self.bf16.each_ref().map(|x| Elements::BF16(x)),
            _ => [&self.query, &self.key, &self.value].map(|x| Elements::F32(x)),
        };
        let tensor = |elements, shape| TensorRef::contiguous("tensor", elements, shape).unwrap();
        let problem = Problem {
            query: tensor(query, self.query_shape),
            key: tensor(key, self.key_shape),
            value: tensor(value, self.key_shape),
            scale: None,
            score_mod: self.score.as_ref(),
            block_mask: self.mask.as_ref(),
        };
        let out = match self.dtype {
            DType::BF16 => ElementsMut::BF16(&mut self.out_bf16),
            _ => ElementsMut::F32(&mut self.out),
        };
        let options = CpuOptions { threads, ..CpuOptions::default() };
        attention(&problem, &options, out, Some(&mut self.lse), None).unwrap();
    }
}

fn mask_of(build: impl FnOnce(&mut Builder) -> flex_core::ir::NodeId, captures: Vec<Capture>) -> MaskMod {
    let mut b = Builder::new();
    let root = build(&mut b);
    MaskMod::new("mask", b.finish(root).unwrap(), captures).unwrap()
}

fn causal() -> MaskMod {
    sliding(i32::MAX)
}

fn sliding(window: i32) -> MaskMod {
    let build = |b: &mut Builder| {
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let (distance, window) = (b.binary(BinaryOp::Sub, q, kv), b.constant(window));
        let (past, near) = (b.binary(BinaryOp::Ge, q, kv), b.binary(BinaryOp::Le, distance, window));
        b.and_then(past, near)
    };
    mask_of(build, vec![])
}

/// Three documents.
fn documents(len: usize) -> MaskMod {
    let ids: Vec<i32> = (0..len as i32).map(|i| i * 3 / len as i32).collect();
    let build = |b: &mut Builder| {
        let doc = b.declare("doc", Type::I32, 1);
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let (of_q, of_kv) = (b.load(doc, &[q]), b.load(doc, &[kv]));
        b.binary(BinaryOp::Eq, of_q, of_kv)
    };
    mask_of(build, vec![Capture { name: "doc".into(), value: CaptureValue::Array((&ids).into_array()) }])
}

/// Not an interval of keys: asked key by key.
fn even_keys() -> MaskMod {
    let build = |b: &mut Builder| {
        let (kv, one, zero) = (b.input(Input::Key), b.constant(1), b.constant(0));
        let bit = b.binary(BinaryOp::And, kv, one);
        b.binary(BinaryOp::Eq, bit, zero)
    };
    mask_of(build, vec![])
}

/// A slope of the distance.
fn alibi() -> ScoreMod {
    let mut b = Builder::new();
    let (score, q, kv) = (b.input(Input::Score), b.input(Input::Query), b.input(Input::Key));
    let slope = b.constant(0.125f32);
    let distance = b.binary(BinaryOp::Sub, kv, q);
    let distance = b.cast(Type::F32, distance);
    let bias = b.binary(BinaryOp::Mul, slope, distance);
    let root = b.binary(BinaryOp::Add, score, bias);
    ScoreMod::new("alibi", b.finish(root).unwrap(), vec![]).unwrap()
}

fn calls() -> Vec<Call> {
    let square = [4, 4, 200, 200, 64];
    [DType::F32, DType::BF16]
        .into_iter()
        .flat_map(|dtype| {
            let call = |name, shape, mask, score| Call::new(name, dtype, shape, mask, score);
            [
                call("dense", square, None, None),
                call("causal", square, Some(causal()), None),
                call("documents", square, Some(documents(200)), None),
                call("even keys", square, Some(even_keys()), None),
                call("score mod", square, Some(causal()), Some(alibi())),
                call("grouped heads", [8, 2, 200, 200, 64], Some(causal()), Some(alibi())),
                call("decoding", [8, 2, 1, 3000, 64], None, None),
                call("decoding with mods", [8, 2, 2, 3000, 64], Some(even_keys()), Some(alibi())),
            ]
        })
        .collect()
}

/// Calls until so many in a row have allocated nothing.
fn reaches_a_steady_state(call: &mut Call, threads: Option<usize>) -> bool {
    const ENOUGH: usize = 6;
    let mut quiet = 0;
    for _ in 0..60 {
        let before = CALLS.load(Relaxed);
        call.run(threads);
        quiet = if CALLS.load(Relaxed) == before { quiet + 1 } else { 0 };
        if quiet == ENOUGH {
            return true;
        }
    }
    false
}

/// The most bytes that a first call on fresh threads has beyond what was there.
fn peak_of_first_call(call: &mut Call, threads: usize) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.broadcast(|_| ());
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    pool.install(|| call.run(None));
    let peak = PEAK.load(Relaxed) - before;
    // Threads give their memory back after the pool is gone; the next call must not take that for its own.
    drop(pool);
    let start = Instant::now();
    while LIVE.load(Relaxed) > before && start.elapsed() < Duration::from_millis(200) {
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}

/// One test: others beside it would be counted.
#[test]
fn memory_is_little_and_kept() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for mut call in calls() {
        let what = format!("{} {}", call.name, call.dtype);
        assert!(reaches_a_steady_state(&mut call, Some(1)), "{what}: calls on this thread allocate");
        let inside = pool.install(|| reaches_a_steady_state(&mut call, None));
        assert!(inside, "{what}: calls inside a pool allocate");
        assert!(reaches_a_steady_state(&mut call, Some(2)), "{what}: calls on a pool of ours allocate");
    }

    for dtype in [DType::F32, DType::BF16] {
        for threads in [1, 2] {
            let calls = [
                Call::new("causal", dtype, [2, 2, 2048, 2048, 64], Some(causal()), None),
                Call::new("causal", dtype, [1, 1, 1024, 2048, 128], Some(causal()), Some(alibi())),
                Call::new("sliding", dtype, [2, 2, 16384, 16384, 64], Some(sliding(128)), None),
                Call::new("dense", dtype, [8, 8, 64, 16384, 128], None, None),
                // Enough rows a key for planes.
                Call::new("reused keys", dtype, [16, 16, 512, 512, 128], None, None),
                Call::new("decoding", dtype, [32, 8, 1, 16384, 128], None, None),
                // Partial results of all of them at once would take 5 MB.
                Call::new("decoding together", dtype, [16, 1, 1, 8320, 128], None, None).of_sequences(300),
            ];
            for mut call in calls {
                let peak = peak_of_first_call(&mut call, threads);
                let what = format!("{} {dtype}, {:?} on {threads} threads", call.name, call.query_shape);
                println!("{what}: {} KiB", peak >> 10);
                assert!(peak > 1 << 10, "{what}: only {peak} bytes were seen");
                assert!(peak < threads * (4 << 20), "{what}: {peak} bytes");
            }
        }
    }
}
