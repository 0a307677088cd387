//! The program as it is run: what it prints for machines and for people, and how it fails.

use std::process::{Command, Output};

use serde_json::Value;

fn flex(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flex"))
        .args(arguments)
        .env_remove("FLEX_LOG")
        .output()
        .expect("the program starts")
}

fn stdout(arguments: &[&str]) -> String {
    let output = flex(arguments);
    assert!(output.status.success(), "flex {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let text = stdout(&[arguments, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"))
}

#[test]
fn demo_agrees_with_the_golden_and_skips_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("mask.svg");
    let reports = json(&["demo", "--svg", svg.to_str().unwrap()]);
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(report["backend"], "cpu");
    assert!(number(report, "rel_err_vs_golden") < 1e-6, "{report}");
    assert!(number(report, "rel_err_vs_f64") < 1e-6, "{report}");
    // 27 sentences of 13 tokens: most of the 23×23 tiles lie between different sentences.
    assert_eq!(number(report, "tiles_total"), 23.0 * 23.0);
    assert!(number(report, "tiles_skipped") > 0.8 * 529.0, "{report}");
    assert!(number(report, "ms") > 0.0);
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg") || drawn.starts_with("<?xml"), "{}", &drawn[..drawn.len().min(80)]);
}

#[test]
fn demo_tells_people_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("mask.svg");
    let text = stdout(&["demo", "--svg", svg.to_str().unwrap()]);
    for part in ["27 sentences", "357 tokens", "doc[q] == doc[kv]", "skipped", "vs golden", "mask.svg"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn demo_says_where_it_could_not_draw() {
    let output = flex(&["demo", "--svg", "/nonexistent/mask.svg", "--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["error"].as_str().unwrap().contains("/nonexistent/mask.svg"), "{report}");
}

#[test]
fn bench_takes_a_kernel_only_for_a_gpu() {
    let output = flex(&["bench", "--case", "causal", "--kernel", "portable", "--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = report["error"].as_str().unwrap();
    assert!(message.contains("--kernel portable") && message.contains("--backend cuda"), "{message}");
}

#[test]
fn mask_counts_the_tiles_of_causal() {
    let report = &json(&["mask", "causal", "--seq-len", "2048"])[0];
    assert_eq!(report["case"], "causal");
    assert_eq!(number(report, "block_size"), 128.0);
    // 16×16 tiles: 120 below the diagonal, 16 on it.
    assert_eq!(number(report, "tiles_full"), 120.0);
    assert_eq!(number(report, "tiles_partial"), 16.0);
    assert_eq!(number(report, "sparsity"), 46.875);
    assert_eq!(number(report, "elements_evaluated"), 0.0);
    assert!(number(report, "bytes") < 4096.0 && number(report, "build_ms") > 0.0, "{report}");
}

#[test]
fn mask_draws_every_mask_of_the_library() {
    let names: Vec<String> =
        json(&["mask", "list"]).iter().map(|m| m["case"].as_str().unwrap().into()).collect();
    assert!(names.len() >= 12, "{names:?}");
    for name in &names {
        let text = stdout(&["mask", name, "--seq-len", "256", "--block-size", "32"]);
        assert!(text.lines().count() > 8, "{name}:\n{text}");
    }
}

#[test]
fn mask_draws_into_files() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, png) = (folder.path().join("mask.svg"), folder.path().join("mask.png"));
    let text = stdout(&["mask", "natten", "--svg", svg.to_str().unwrap(), "--png", png.to_str().unwrap()]);
    assert!(text.contains("mask.svg") && text.contains("mask.png"), "{text}");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
    let image = std::fs::read(png).unwrap();
    assert!(image.starts_with(b"\x89PNG\r\n\x1a\n") && image.ends_with(b"IEND\xaeB`\x82"));
    // The header's width and height: 16 tiles a side of 32 pixels.
    assert_eq!(image[16..24], [0, 0, 2, 0, 0, 0, 2, 0]);

    let output = flex(&["mask", "causal", "--png", "/nonexistent/mask.png", "--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["error"].as_str().unwrap().contains("/nonexistent/mask.png"), "{report}");
}

#[test]
fn mask_figures_measure_every_mask() {
    let reports = json(&["mask", "figures", "--seq-len", "512"]);
    let cases: Vec<&str> = reports.iter().map(|report| report["case"].as_str().unwrap()).collect();
    let listed: Vec<String> =
        json(&["mask", "list"]).iter().map(|m| m["case"].as_str().unwrap().into()).collect();
    assert!(
        cases.len() >= 14 && cases.iter().all(|case| listed.iter().any(|name| name == case)),
        "{cases:?}"
    );
    for report in &reports {
        for field in ["build_ms", "least_ms", "builds", "threads", "bytes", "block_size"] {
            assert!(number(report, field) > 0.0, "{field} of {report}");
        }
        let evaluated = number(report, "elements_evaluated");
        match report["case"].as_str() {
            Some("unprovable") => {
                assert_eq!(evaluated, 512.0 * 512.0);
                assert!(number(report, "evaluated_g_per_s") > 0.0);
            }
            Some(
                "causal" | "sliding_window" | "prefix_lm" | "document" | "document_causal" | "global_sliding",
            ) => {
                assert_eq!(evaluated, 0.0, "{report}");
            }
            _ => {}
        }
    }
}

#[test]
fn mask_names_what_it_does_not_know() {
    let output = flex(&["mask", "casual"]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("casual") && message.contains("causal") && message.contains("document"),
        "{message}"
    );
    let output = flex(&["mask", "causal", "--block-size", "0"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected at least 1"));
}

#[test]
fn bench_measures_every_case_and_is_exact() {
    // 400 is a square, so natten is among the cases.
    let reports =
        json(&["bench", "--seq-len", "400", "--heads", "2", "--head-dim", "32", "--block-size", "64"]);
    let cases: Vec<&str> = reports.iter().map(|r| r["case"].as_str().unwrap()).collect();
    let expected = [
        "dense",
        "causal",
        "sliding1024",
        "prefix_lm",
        "document12",
        "doc_causal12",
        "alibi_causal",
        "softcap20_causal",
        "relpos_dense",
        "natten13",
    ];
    assert_eq!(cases, expected);
    for report in &reports {
        assert_eq!(report["shape"], "B1_H2_2_S400_D32");
        assert_eq!((&report["backend"], &report["dtype"]), (&"cpu".into(), &"f32".into()));
        assert!(number(report, "ms") > 0.0 && number(report, "gflops") > 0.0, "{report}");
        assert!(number(report, "max_rel_err") < 5e-6, "{report}");
    }
}

#[test]
fn bench_takes_half_precision_and_grouped_heads() {
    let arguments =
        "bench --case causal,dense --seq-len 200 --heads 4 --kv-heads 2 --head-dim 40 --dtype bf16";
    let reports = json(&arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert_eq!(report["shape"], "B1_H4_2_S200_D40");
        assert_eq!(report["dtype"], "bf16");
        // The output is rounded to 8 bits of mantissa.
        assert!((1e-4..1e-2).contains(&number(report, "max_rel_err")), "{report}");
    }
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    for (arguments, expected) in [
        ("bench --case natten13 --seq-len 1000", "square"),
        ("bench --case causal --heads 3 --kv-heads 2 --seq-len 64", "multiple"),
        ("bench --case causal --seq-len 0", "at least 1"),
        ("bench --case nothing", "natten13"),
        ("bench --case decode --queries 0 --seq-len 64", "at least one query"),
        ("bench --case decode --queries 65 --seq-len 64", "--queries 65"),
        ("bench --case causal --threads 0", "1..=1024"),
        ("bench --case causal --threads 65536", "65536"),
    ] {
        let output = flex(&arguments.split(' ').collect::<Vec<_>>());
        assert!(!output.status.success(), "{arguments}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(expected), "{arguments}: {message}");
    }
}

#[test]
fn bench_on_a_gpu_measures_or_says_why_not() {
    let output = flex(&["bench", "--backend", "cuda", "--case", "causal", "--seq-len", "256", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    if output.status.success() {
        assert_eq!(report["backend"], "cuda");
        assert!(number(&report, "max_rel_err") < 5e-6, "{report}");
    } else {
        assert!(report["error"].as_str().unwrap().starts_with("no usable GPU: "), "{report}");
    }
}

#[test]
fn kernel_compiles_without_a_gpu_and_writes_bundles() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    let arguments = "kernel causal+softcap --arch sm_80 --head-dim 64 --dtype f16 --emit cuda --json --out";
    let arguments: Vec<&str> = arguments.split(' ').chain([bundle.to_str().unwrap()]).collect();
    let dump = folder.path().join("dump");
    let output = Command::new(env!("CARGO_BIN_EXE_flex"))
        .args(&arguments)
        .env_remove("FLEX_LOG")
        .env("FLEX_DUMP_CUDA", &dump)
        .output()
        .expect("the program starts");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    if !output.status.success() {
        assert!(report["error"].as_str().unwrap().contains("NVRTC was not found"), "{report}");
        return;
    }
    for (field, expected) in [("arch", "sm_80"), ("dtype", "f16"), ("name", "causal+softcap")] {
        assert_eq!(report[field], expected);
    }
    assert!(number(&report, "registers") > 0.0 && number(&report, "smem_bytes") > 0.0, "{report}");
    for field in ["spill_bytes", "stack_bytes", "compile_ms"] {
        number(&report, field);
    }
    assert!(report["warnings"].is_array() && report["code"].as_str().unwrap().contains("struct Mods"));
    assert!(bundle.join("manifest.json").exists());
    let dumped =
        std::fs::read_to_string(dump.join(format!("{}.cu", report["key"].as_str().unwrap()))).unwrap();
    assert!(dumped.starts_with(report["code"].as_str().unwrap()), "{dumped}");
}

#[test]
fn kernel_prints_source_and_plan_without_nvrtc() {
    let empty = tempfile::tempdir().unwrap();
    for emit in ["cuda", "plan"] {
        let output = Command::new(env!("CARGO_BIN_EXE_flex"))
            .args(["kernel", "causal+alibi", "--emit", emit, "--json"])
            .env_remove("FLEX_LOG")
            .env("FLEX_NVRTC_DIR", empty.path())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{emit}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["code"].as_str().is_some_and(|code| code.contains("struct Mods")), emit == "cuda");
    }
}

#[test]
fn kernel_says_why_nvrtc_cannot_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvrtc.so.13");
    std::fs::write(&library, "no library").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_flex"))
        .args(["kernel", "causal"])
        .env("FLEX_NVRTC_DIR", folder.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    let reason = format!("{}: ", library.display());
    assert!(message.contains("NVRTC was not found") && message.contains(&reason), "{message}");
}

#[test]
fn kernel_refuses_sizes_that_no_call_can_have() {
    for (arguments, expected) in [
        ("relative_bias --seq-len 0", "expected at least 1"),
        ("relative_bias --seq-len 99999999999999999", "expected at most 2147483647"),
        ("relative_bias --seq-len 2147483647", "is too large"),
        ("bias_qk --seq-len 2147483647", "is too large"),
        ("t5_bias --heads 99999999999999999", "expected at most 2147483647"),
        ("causal --heads 0", "expected at least 1"),
    ] {
        let arguments = format!("kernel {arguments} --emit plan");
        let output = flex(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments}: {message}");
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_flex"))
        .args(["mask", "list"])
        .env("FLEX_LOG", "==")
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("FLEX_LOG") && message.contains("such as `debug`"), "{message}");
}

#[test]
fn kernel_names_what_it_does_not_know() {
    let output = flex(&["kernel", "causal+alibbi"]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("`alibbi`") && message.contains("alibi"), "{message}");
    let output = flex(&["kernel", "causal", "--arch", "sm_9"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected one like sm_80"));
}

#[test]
fn doctor_says_what_there_is() {
    let report = &json(&["doctor"])[0];
    assert_eq!(report["cpu"]["architecture"], std::env::consts::ARCH);
    assert!(number(&report["cpu"], "threads") >= 1.0);
    assert_eq!(report["cpu"]["instruction_set"], flex_core::isa::InstructionSet::current().name());
    assert!(report["would_use"].is_string() && report["cache"].is_object(), "{report}");
    let text = stdout(&["doctor"]);
    for part in ["attention would run on", "CPU", "GPU", "NVRTC", "cache"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
