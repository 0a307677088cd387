//! CUDA graphs: a call on the stream of another library is captured and replayed. Memory, stream and graph are made by the
//! driver itself, as a framework makes them.
#![cfg(feature = "cuda")]

mod support;

use std::ffi::{c_uint, c_void};
use std::ptr::null_mut;

use flex_attention::Error;
use flex_attention::cuda::{
    self, CudaDevice, CudaError, CudaOptions, CudaStream, CudaTensorMut, CudaTensorRef, Force, Template,
};
use flex_attention::library::{alibi, document_causal};
use flex_attention::prelude::*;
use flex_attention::score_mod;
use half::bf16;
use libloading::Library;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, gpu};

/// The driver, as another library uses it.
struct ForeignDriver(Library);

macro_rules! call {
    ($driver:expr, $name:literal ($($ty:ty = $value:expr),* $(,)?)) => {{
        // SAFETY: the function has this signature in every driver, and the test passes live handles of the primary
        // context and ranges inside its own allocations.
        let code = unsafe {
            let function = $driver.0.get::<unsafe extern "system" fn($($ty),*) -> c_uint>($name).unwrap();
            function($($value),*)
        };
        assert_eq!(code, 0, "{}", String::from_utf8_lossy($name));
    }};
}

/// The strictest mode: anything unsafe that any thread does spoils the capture.
const CAPTURE_GLOBAL: c_uint = 0;
const NON_BLOCKING: c_uint = 1;

impl ForeignDriver {
    fn load() -> Self {
        // SAFETY: loading the driver runs its initialisers, which are made for that.
        let driver = Self(unsafe { Library::new("libcuda.so.1") }.unwrap());
        let mut context: *mut c_void = null_mut();
        call!(driver, b"cuDevicePrimaryCtxRetain"(*mut *mut c_void = &mut context, i32 = 0));
        call!(driver, b"cuCtxSetCurrent"(*mut c_void = context));
        driver
    }

    fn stream(&self) -> *mut c_void {
        let mut stream = null_mut();
        call!(self, b"cuStreamCreate"(*mut *mut c_void = &mut stream, c_uint = NON_BLOCKING));
        stream
    }

    fn allocate(&self, elements: usize) -> u64 {
        let mut ptr = 0u64;
        call!(self, b"cuMemAlloc_v2"(*mut u64 = &mut ptr, usize = elements * 2));
        ptr
    }

    fn write(&self, ptr: u64, elements: &[bf16]) {
        call!(self, b"cuMemcpyHtoD_v2"(u64 = ptr, *const c_void = elements.as_ptr().cast(), usize = size_of_val(elements)));
    }

    fn read(&self, ptr: u64, elements: usize) -> Vec<u16> {
        let mut read = vec![0u16; elements];
        call!(self, b"cuCtxSynchronize"());
        call!(self, b"cuMemcpyDtoH_v2"(*mut c_void = read.as_mut_ptr().cast(), u64 = ptr, usize = elements * 2));
        read
    }

    fn begin(&self, stream: *mut c_void) {
        call!(self, b"cuStreamBeginCapture_v2"(*mut c_void = stream, c_uint = CAPTURE_GLOBAL));
    }

    /// The graph, and how many nodes it has.
    fn end(&self, stream: *mut c_void) -> (*mut c_void, usize) {
        let (mut graph, mut nodes) = (null_mut(), 0usize);
        call!(self, b"cuStreamEndCapture"(*mut c_void = stream, *mut *mut c_void = &mut graph));
        call!(self, b"cuGraphGetNodes"(*mut c_void = graph, *mut c_void = null_mut(), *mut usize = &mut nodes));
        (graph, nodes)
    }

    fn instantiate(&self, graph: *mut c_void) -> *mut c_void {
        let mut executable = null_mut();
        call!(
            self,
            b"cuGraphInstantiateWithFlags"(*mut *mut c_void = &mut executable, *mut c_void = graph, u64 = 0)
        );
        executable
    }

    fn launch(&self, executable: *mut c_void, stream: *mut c_void) {
        call!(self, b"cuGraphLaunch"(*mut c_void = executable, *mut c_void = stream));
    }
}

/// A problem in memory of the foreign library.
struct Foreign {
    driver: ForeignDriver,
    raw_stream: *mut c_void,
    stream: CudaStream,
    query: u64,
    key: u64,
    value: u64,
    out: u64,
}

const QUERY: [usize; 4] = [2, 4, 300, 64];
const KEY: [usize; 4] = [2, 2, 300, 64];
const OUT_ELEMENTS: usize = 2 * 4 * 300 * 64;

impl Foreign {
    fn new() -> Self {
        gpu();
        let driver = ForeignDriver::load();
        let raw_stream = driver.stream();
        // SAFETY: the stream lives as long as the process.
        let stream = unsafe { CudaStream::from_raw(CudaDevice::new(0).unwrap(), raw_stream) }.unwrap();
        let [query, key, value, out] =
            [QUERY, KEY, KEY, QUERY].map(|shape| driver.allocate(shape.iter().product()));
        Self { driver, raw_stream, stream, query, key, value, out }
    }

    fn fill(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let case = Case::random(&mut rng, DType::BF16, QUERY, KEY, 64);
        for (ptr, tensor) in [(self.query, &case.query), (self.key, &case.key), (self.value, &case.value)] {
            let elements: Vec<bf16> = tensor.to_f32_vec().unwrap().into_iter().map(bf16::from_f32).collect();
            self.driver.write(ptr, &elements);
        }
    }

    fn clear_out(&self) {
        self.driver.write(self.out, &vec![bf16::NAN; OUT_ELEMENTS]);
    }

    fn attend(&self, template: Template, mask: &BlockMask, score: &ScoreMod) -> Result<(), Error> {
        let contiguous = |[_, heads, len, dim]: [usize; 4]| [heads * len * dim, len * dim, dim, 1];
        let view = |ptr, shape| {
            // SAFETY: the memory is that of `new` and lives as long as the process; only this test's stream and
            // synchronous copies touch it.
            unsafe { CudaTensorRef::from_raw_parts(&self.stream, ptr, DType::BF16, shape, contiguous(shape)) }
        };
        // SAFETY: as above.
        let out = unsafe {
            CudaTensorMut::from_raw_parts(&self.stream, self.out, DType::BF16, QUERY, contiguous(QUERY))
        };
        let force = Force { template: Some(template), ..Force::default() };
        flex_attention(view(self.query, QUERY), view(self.key, KEY), view(self.value, KEY))
            .block_mask(mask)
            .score_mod(score)
            .cuda(CudaOptions { force, ..CudaOptions::default() })
            .run_into(out)
    }

    fn out(&self) -> Vec<u16> {
        self.driver.read(self.out, OUT_ELEMENTS)
    }
}

fn templates() -> Vec<Template> {
    match CudaDevice::new(0).unwrap().arch().is_hopper() {
        true => vec![Template::ForwardPortable, Template::ForwardSm90],
        false => vec![Template::ForwardPortable],
    }
}

fn mods() -> (BlockMask, ScoreMod) {
    let doc: Vec<i32> = (0..300).map(|i| i / 70).collect();
    let extent = Extent { batch: 2, heads: 4, q_len: 300, kv_len: 300 };
    let mask = create_block_mask(&document_causal::bind(doc).unwrap(), extent).unwrap();
    (mask, alibi::bind(&[0.5, 0.25, 0.125, 0.0625]).unwrap())
}

/// One test, because a global capture forbids what the others do meanwhile.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn calls_are_captured_and_replayed() {
    let foreign = Foreign::new();
    for template in templates() {
        for called_before in [true, false] {
            replay(&foreign, template, called_before);
        }
        faults_are_refused(&foreign, template);
    }
}

/// A graph gives what calls give, for whatever the tensors hold when it is launched.
fn replay(foreign: &Foreign, template: Template, called_before: bool) {
    let what = format!("{template:?}, called before: {called_before}");
    let (mask, score) = mods();
    foreign.fill(1);
    if called_before {
        foreign.attend(template, &mask, &score).unwrap();
    }
    foreign.driver.begin(foreign.raw_stream);
    foreign.attend(template, &mask, &score).unwrap();
    let (graph, nodes) = foreign.driver.end(foreign.raw_stream);
    assert_eq!(nodes, 1, "{what}: a call is one kernel and nothing else");
    let executable = foreign.driver.instantiate(graph);
    let compiles = cuda::compiler().stats().compiles;
    for seed in 2..6 {
        foreign.fill(seed);
        foreign.clear_out();
        foreign.attend(template, &mask, &score).unwrap();
        let expected = foreign.out();
        assert!(expected.iter().all(|&bits| bf16::from_bits(bits).is_finite()), "{what}");
        foreign.clear_out();
        foreign.driver.launch(executable, foreign.raw_stream);
        assert_eq!(foreign.out(), expected, "{what}: launch {seed} of the graph");
    }
    assert_eq!(cuda::compiler().stats().compiles, compiles);
}

/// What could only be told after the launch is an error at once, and does not spoil the capture.
fn faults_are_refused(foreign: &Foreign, template: Template) {
    let (mask, _) = mods();
    let bias = vec![0.0f32; 100];
    let score = score_mod!(|score, b, h, q, kv| score + bias[q - kv]);
    foreign.driver.begin(foreign.raw_stream);
    let error = foreign.attend(template, &mask, &score).unwrap_err();
    assert!(matches!(error, Error::Cuda(CudaError::FaultInCapture)), "{error:?}");
    let (_, nodes) = foreign.driver.end(foreign.raw_stream);
    assert_eq!(nodes, 0);
}
