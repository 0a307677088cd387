//! What CI checks, step by step.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::nvrtc;

/// Runs all checks, the tests last so that cargo's summary closes the output.
pub(crate) fn test() -> Result<(), String> {
    let root = workspace_root();
    match nvrtc::ensure(&root) {
        Ok(found) => println!("==> NVRTC: {found}"),
        // The tests that compile kernels then fail by themselves and say what is missing.
        Err(why) => println!("==> NVRTC could not be fetched: {why}"),
    }
    cargo(&root, &["fmt", "--all", "--check"], &[])?;
    cargo(&root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    cargo(&root, &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    cargo(&root, &["test", "--workspace"], &[])
}

fn cargo(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    let line = format!("cargo {}", arguments.join(" "));
    println!("==> {line}");
    let start = Instant::now();
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root)
        .status()
        .map_err(|e| format!("could not start `{line}`: {e}"))?;
    // On stderr: nothing may follow cargo's own summary on stdout.
    eprintln!("==> {line}: {:.0} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed ({status})")) }
}

pub(crate) fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
