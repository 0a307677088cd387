//! NVRTC for machines without a CUDA toolkit.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest NVRTC whose cubins every supported driver loads, and the reader of machine code. Installed by one command:
/// a second one with the same target drops files of the first.
const WHEELS: [&str; 2] = ["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-nvdisasm>=13.2"];
const LIBRARIES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/// Finds NVRTC, or fetches it with pip into `.nvrtc` of the workspace. Says where it is.
pub(crate) fn ensure(root: &Path) -> Result<String, String> {
    let folder = root.join(".nvrtc");
    let fetched = folder.join("nvidia/cu13/lib");
    if let Some(found) = search(&fetched) {
        return Ok(found.display().to_string());
    }
    for installed in installed_folders() {
        if let Some(found) = search(&installed) {
            return Ok(found.display().to_string());
        }
    }
    fetch(&folder)?;
    let found =
        search(&fetched).ok_or_else(|| format!("{} has no library in {}", WHEELS[0], fetched.display()))?;
    Ok(format!("{} (fetched with pip)", found.display()))
}

fn search(folder: &Path) -> Option<PathBuf> {
    LIBRARIES.iter().map(|name| folder.join(name)).find(|path| path.exists())
}

fn installed_folders() -> Vec<PathBuf> {
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&listed).filter(|p| p.is_absolute()).collect();
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(home) = std::env::var_os(variable) {
            folders.push(Path::new(&home).join("lib64"));
        }
    }
    let usual =
        ["/usr/local/cuda/lib64", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    folders.extend(usual.map(PathBuf::from));
    folders
}

fn fetch(folder: &Path) -> Result<(), String> {
    let wheels = WHEELS.join(" ");
    println!("==> pip install {wheels}");
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--root-user-action=ignore",
            "--upgrade",
            "--target",
        ])
        .arg(folder)
        .args(WHEELS)
        .status()
        .map_err(|e| format!("could not start python3: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("pip could not install {wheels} ({status})")) }
}
