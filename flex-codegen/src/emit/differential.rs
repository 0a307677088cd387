//! Generated mods, compiled by the system's C++ compiler, against the interpreter: many random mods in one library.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flex_core::analysis::interpret::{Fault, Point};
use flex_core::capture::{Array, ArrayData};
use flex_core::ir::{NodeId, Scalar, Type};
use flex_core::mods::{BoundExpr, ModFault};
use flex_core::testing::{self, ExprConfig, Outcome};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::code::{Guarding, ModCode};
use super::staged::StagedNodes;
use super::{ExponentScale, ModKind, exponent, kept_keys, mods, rewrite, simplify};
use crate::plan::portable::tests::any_schedule;
use crate::{Arch, CaptureLayout, FaultSites, KernelSpec, Precision, SlotError, abi};

/// Mods a library holds; points each is tried at.
const BATCH: usize = 250;
const POINTS: usize = 24;

struct Case {
    bound: BoundExpr,
    layout: CaptureLayout,
    sites: FaultSites,
    has_interval: bool,
    terms: StagedNodes,
    text: String,
}

/// What a generated function gave, and the record of its fault.
#[repr(C)]
#[derive(Default)]
struct Answer {
    bits: u32,
    kept_first: i32,
    kept_end: i32,
    fault: abi::Fault,
}

type Evaluate = unsafe extern "C" fn(*const abi::Problem, *const u64, *const i32, f32, *mut Answer);

impl Case {
    /// `staged`: all that can be taken out of the code of elements is.
    fn new(bound: BoundExpr, guarding: Guarding, staged: bool) -> Self {
        let spec = KernelSpec {
            precision: Precision::Accurate,
            ..KernelSpec::new(Arch::OLDEST, any_schedule(), flex_core::attention::DType::F32, 64, 64)
        };
        let is_mask = bound.expr().result_type() == Type::Bool;
        let expr =
            if is_mask { simplify(bound.expr()) } else { exponent(bound.expr(), &spec).unwrap().score };
        let mut sites = Vec::new();
        let kind = if is_mask { ModKind::Mask } else { ModKind::Score };
        let scale = (!is_mask).then(|| rewrite::scale_of(&expr));
        let mut code = ModCode::new(kind, &expr, Precision::Accurate, guarding, scale, &mut sites);
        if staged {
            code.staged = StagedNodes::find(&code, 1, true);
        }
        let terms = code.staged.clone();
        let kept_keys = if is_mask && terms.is_empty() { kept_keys::conditions(&expr) } else { None };
        let has_interval = kept_keys.is_some();
        let (mask, score) = if is_mask { (Some(code), None) } else { (None, Some(code)) };
        let text = mods::Mods {
            kept_keys_from_table: false,
            mask,
            score,
            kept_keys,
            can_fault: !sites.is_empty(),
            exponent_scale: ExponentScale::Constant(1.0),
            captured_scale: None,
            key_line: None,
        }
        .text();
        let declared = Some(&**bound.expr());
        let layout =
            if is_mask { CaptureLayout::new(declared, None) } else { CaptureLayout::new(None, declared) };
        Self { layout: layout.unwrap(), sites: FaultSites(sites), has_interval, terms, text, bound }
    }

    fn is_mask(&self) -> bool {
        self.bound.expr().result_type() == Type::Bool
    }

    fn mods(&self) -> (Option<&BoundExpr>, Option<&BoundExpr>) {
        if self.is_mask() { (Some(&self.bound), None) } else { (None, Some(&self.bound)) }
    }

    fn source(&self, n: usize) -> String {
        let inner = self
            .text
            .replacen("namespace flex {", &format!("namespace flex {{ namespace case_{n} {{"), 1)
            .replacen("}  // namespace flex", "} }", 1);
        let (terms, key, distance) = match self.terms.is_empty() {
            true => ("", "", ""),
            false => (
                "const auto key = Mods::key_terms(p, c, at[0], at[1], at[3]);\n    const auto distance = Mods::distance_terms(p, c, \
                 at[0], at[1], flex::sub(at[2], at[3]));",
                "key, ",
                "distance, ",
            ),
        };
        let value = if self.is_mask() {
            format!(
                "answer->bits = Mods::mask(p, c, row, column, {distance}at[0], at[1], at[2], at[3], true);"
            )
        } else {
            format!(
                "const float s = Mods::score(p, c, row, column, {distance}qk, at[0], at[1], at[2], at[3], true); \
                 memcpy(&answer->bits, &s, 4);"
            )
        };
        format!(
            "{inner}\nextern \"C\" void evaluate_{n}(const flex::Problem* problem, const void* captures, const int* at, float qk, \
             Answer* answer) {{\n    using namespace flex::case_{n};\n    flex::Problem p = *problem;\n    p.fault = \
             &answer->fault;\n    const Captures& c = *static_cast<const Captures*>(captures);\n    const auto row = Mods::row(p, c, \
             at[0], at[1], at[2]);\n    {terms}\n    const auto column = Mods::column(p, c, {key}at[0], at[1], at[3]);\n    {value}\n    const int2 kept \
             = Mods::kept_keys(p, c, row, at[0], at[1], at[2]);\n    answer->first = kept.x, answer->end = kept.y;\n}}\n"
        )
    }
}

fn compile(dir: &Path, cases: &[Case]) -> libloading::Library {
    let shim = concat!(env!("CARGO_MANIFEST_DIR"), "/src/emit/host_shim.h");
    let mut source = format!(
        "#include \"{shim}\"\nstruct Answer {{\n    unsigned bits;\n    int first, end;\n    flex::Fault fault;\n}};\n"
    );
    for (n, case) in cases.iter().enumerate() {
        write!(source, "{}", case.source(n)).unwrap();
    }
    let (file, library) = (dir.join("mods.cpp"), dir.join("mods.so"));
    std::fs::write(&file, source).unwrap();
    let compiler = std::env::var_os("CXX").map_or_else(|| PathBuf::from("c++"), PathBuf::from);
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fno-builtin", "-w"])
        .args([
            "-fsanitize=undefined",
            "-fno-sanitize=alignment,null,vptr",
            "-fsanitize-undefined-trap-on-error",
        ])
        .args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/../templates"), "-o"])
        .args([&library, &file])
        .output()
        .expect("a C++ compiler named c++ or by $CXX");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library has only the functions generated above.
    let library = unsafe { libloading::Library::new(library) }.unwrap();
    for (name, function) in [("interpreter_min", least as Pair), ("interpreter_max", greatest)] {
        // SAFETY: the variables of the shim have this type.
        unsafe { **library.get::<*mut Pair>(name.as_bytes()).unwrap() = function };
    }
    library
}

type Pair = extern "C" fn(f32, f32) -> f32;

extern "C" fn least(a: f32, b: f32) -> f32 {
    a.min(b)
}

extern "C" fn greatest(a: f32, b: f32) -> f32 {
    a.max(b)
}

fn address(array: &Array) -> u64 {
    match array.data() {
        ArrayData::Bool(d) => d.as_ptr() as u64,
        ArrayData::I32(d) => d.as_ptr() as u64,
        ArrayData::U32(d) => d.as_ptr() as u64,
        ArrayData::F32(d) => d.as_ptr() as u64,
    }
}

fn runner(seed: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn sample<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

/// Random mods of a configuration, scaled by `FLEX_TEST_SCALE`.
fn check(config: ExprConfig, guarding: Guarding, default_cases: u32, seed: u8) {
    check_staged(config, guarding, false, default_cases, seed);
}

/// Also how many terms of distances there were.
fn check_staged(config: ExprConfig, guarding: Guarding, staged: bool, default_cases: u32, seed: u8) -> usize {
    let mut runner = runner(seed);
    let mods = testing::expressions(config);
    let (mut faults, mut distances) = (0, 0);
    for _ in 0..(testing::cases(default_cases) as usize).div_ceil(BATCH) {
        let cases: Vec<Case> =
            (0..BATCH).map(|_| Case::new(sample(&mut runner, &mods), guarding, staged)).collect();
        distances += cases.iter().map(|case| case.terms.of_distances.len()).sum::<usize>();
        let dir = tempfile::tempdir().unwrap();
        let library = compile(dir.path(), &cases);
        for (n, case) in cases.iter().enumerate() {
            // SAFETY: the function was generated with this type.
            let evaluate = unsafe { library.get::<Evaluate>(format!("evaluate_{n}").as_bytes()) }.unwrap();
            faults += check_case(case, &evaluate, &mut runner, guarding);
        }
    }
    assert!(
        guarding != Guarding::Recorded || faults > 100,
        "only {faults} faults: the test does not see them"
    );
    distances
}

/// How many points faulted.
fn check_case(case: &Case, evaluate: &Evaluate, runner: &mut TestRunner, guarding: Guarding) -> usize {
    let (mask, score_mod) = case.mods();
    let mut block = Vec::new();
    case.layout.pack(mask, score_mod, |array| Ok::<_, SlotError>(address(array)), &mut block).unwrap();
    let problem = abi::Problem { scale: 1.0, kv_len: 1 << 20, ..Default::default() };
    let mut faults = 0;
    for _ in 0..POINTS {
        let (at, score) = (sample(runner, &testing::points()), sample(runner, &testing::scores()));
        let mut answer = Answer::default();
        let place = [at.b, at.h, at.q, at.kv];
        // SAFETY: captures and addresses are those of the layout, the arrays live as long as the mod.
        unsafe { evaluate(&problem, block.as_ptr(), place.as_ptr(), score, &mut answer) };
        let expected = testing::outcome(&case.bound, at, score);
        let fault = case.sites.describe(&answer.fault, mask, score_mod);
        let same = match &expected {
            Outcome::Fault(expected) => {
                faults += 1;
                let expected = ModFault::new(&case.bound, at, Fault { node: NodeId(0), kind: *expected });
                guarding != Guarding::Recorded || fault.as_ref() == Some(&expected)
            }
            Outcome::Value(expected) => {
                fault.is_none()
                    && same_value(*expected, answer.bits)
                    && interval_agrees(case, at, *expected, &answer)
            }
        };
        assert!(
            same,
            "{at:?} score {score:?}: expected {expected:?}, got {:08x} {fault:?}\n{}\n{}",
            answer.bits,
            case.bound.expr(),
            case.text
        );
    }
    faults
}

/// Equal bits; any NaN for a NaN. Score mods give the exponent of 2.
fn same_value(expected: Scalar, bits: u32) -> bool {
    match expected {
        Scalar::F32(v) => {
            let exponent = std::f32::consts::LOG2_E * v;
            exponent.to_bits() == bits || exponent.is_nan() && f32::from_bits(bits).is_nan()
        }
        other => other.bits() == bits,
    }
}

/// Where the kept keys are an interval, it has the key exactly if the mask keeps it.
fn interval_agrees(case: &Case, at: Point, kept: Scalar, answer: &Answer) -> bool {
    let inside = (0..1 << 20).contains(&at.kv) && (0..1 << 20).contains(&at.q) && at.b >= 0 && at.h >= 0;
    !case.has_interval
        || !inside
        || (answer.kept_first..answer.kept_end).contains(&at.kv) == (kept == Scalar::Bool(true))
}

#[test]
fn generated_masks_mean_what_the_interpreter_says() {
    check(ExprConfig::mask(), Guarding::Recorded, 1000, 1);
}

#[test]
fn generated_score_mods_mean_what_the_interpreter_says() {
    check(ExprConfig::score(), Guarding::Recorded, 1000, 2);
}

#[test]
fn masks_that_never_fault_need_no_record() {
    check(ExprConfig::mask().without_faults(), Guarding::Quiet, 500, 3);
}

#[test]
fn staged_terms_mean_what_the_interpreter_says() {
    let masks = check_staged(ExprConfig::mask().without_faults(), Guarding::Quiet, true, 250, 5);
    let scores = check_staged(ExprConfig::score().without_faults(), Guarding::Quiet, true, 250, 6);
    assert!(masks > 10 && scores > 10, "only {masks} and {scores} terms of distances");
}

#[test]
fn small_masks_have_exact_intervals() {
    check(ExprConfig::mask().without_faults().steps(1..=4), Guarding::Quiet, 500, 4);
}
