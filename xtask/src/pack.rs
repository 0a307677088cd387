//! One folder with everything that shows on a GPU machine what this library does there: no Rust, no repository needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::workspace_root;

/// What a transfer of the folder may weigh.
const MOST_BYTES: u64 = 60 << 20;

/// Builds the GPU tests, the main example and the program without symbols into `target/pack`, with the goldens and the `run`
/// script beside them.
pub(crate) fn pack() -> Result<(), String> {
    let root = workspace_root();
    let executables = build(&root)?;
    let pack = root.join("target/pack");
    if pack.exists() {
        fs::remove_dir_all(&pack).map_err(|e| format!("{}: {e}", pack.display()))?;
    }
    for executable in &executables {
        copy(&executable.path, &pack.join(executable.folder).join(&executable.name))?;
    }
    for (folder, extension) in [("tests/goldens", "safetensors"), ("tests/goldens", "py"), ("benches", "py")]
    {
        for file in files(&root.join(folder), extension) {
            let name = file.file_name().unwrap_or_default();
            copy(&file, &pack.join(folder.rsplit('/').next().unwrap_or(folder)).join(name))?;
        }
    }
    copy(&root.join("xtask/pack/run"), &pack.join("run"))?;
    compress(&pack, "tests")?;

    let bytes = size(&pack);
    println!("{}: {} programs, {:.1} MiB", pack.display(), executables.len(), bytes as f64 / 1048576.0);
    if bytes > MOST_BYTES {
        return Err(format!(
            "the folder has {bytes} bytes, expected at most {MOST_BYTES}: leave something out"
        ));
    }
    Ok(())
}

/// A built program and where it belongs.
struct Executable {
    folder: &'static str,
    name: String,
    path: PathBuf,
}

fn build(root: &Path) -> Result<Vec<Executable>, String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(["build", "--profile", "gpu-pack", "--package", "flex-attention"])
        .args(["--bins", "--tests", "--examples", "--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("could not start cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("building failed ({})", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(|line| {
        let path = PathBuf::from(string_field(line, "executable")?);
        let name = string_field(&line[line.find("\"target\":")?..], "name")?;
        let folder = match () {
            () if line.contains("\"kind\":[\"test\"]") => "tests",
            () if line.contains("\"kind\":[\"example\"]") => "examples",
            () if line.contains("\"kind\":[\"bin\"]") => "bin",
            () => return None,
        };
        // What needs no GPU is tested elsewhere. Of the examples the main job; the others show the API, not the machine.
        let wanted = match folder {
            "tests" => name.starts_with("gpu_") || name == "cuda_probe",
            "examples" => name == "packed_minilm",
            _ => true,
        };
        let is_unit_test = folder != "tests" && is_test_profile(line);
        (wanted && !is_unit_test).then_some(Executable { folder, name, path })
    });
    Ok(built.collect())
}

/// Whether cargo built the artifact of this message as a test harness.
fn is_test_profile(message: &str) -> bool {
    let profile = message.find("\"profile\":").map_or("", |at| &message[at..]);
    profile.split('}').next().unwrap_or("").contains("\"test\":true")
}

/// The value of a string field of a message of cargo's.
fn string_field(json: &str, name: &str) -> Option<String> {
    let start = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    let len = json[start..].find('"')?;
    Some(json[start..start + len].to_owned())
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(at(from))
}

/// Makes `folder` in `pack` an archive, which `run` unpacks: every test program has the whole library in it.
fn compress(pack: &Path, folder: &str) -> Result<(), String> {
    let archive = pack.join(folder).with_extension("tar.gz");
    let status = Command::new("tar")
        .args(["-czf".as_ref(), archive.as_os_str(), "-C".as_ref(), pack.as_os_str(), folder.as_ref()])
        .status()
        .map_err(|e| format!("could not start tar: {e}"))?;
    if !status.success() {
        return Err(format!("tar failed ({status})"));
    }
    fs::remove_dir_all(pack.join(folder)).map_err(|e| format!("{folder}: {e}"))
}

fn size(path: &Path) -> u64 {
    if !path.is_dir() {
        return fs::metadata(path).map_or(0, |metadata| metadata.len());
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}
