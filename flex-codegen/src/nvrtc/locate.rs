//! Where NVRTC may be.

use std::path::{Path, PathBuf};

use crate::env;

/// Versions whose cubins the drivers of their time and later load; the preferred one first.
pub(super) const SONAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// The files to try in order: the folder that the user names, what the loader finds by itself, Python wheels of the
/// environment in use, a `.nvrtc` folder (where `pip install --target` put a wheel) beside or above the working folder,
/// the toolkit.
pub(super) fn candidates() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Some(dir) = env::nvrtc_dir() {
        for inner in [dir.clone(), dir.join("nvidia/cu13/lib"), dir.join("nvidia/cuda_nvrtc/lib")] {
            push_folder(&mut all, &inner);
        }
        return all;
    }
    all.extend(SONAMES.map(PathBuf::from));
    for root in wheel_roots() {
        for inner in ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"] {
            push_folder(&mut all, &root.join(inner));
        }
    }
    for root in ["/usr/local/cuda", "/opt/cuda"] {
        for inner in ["lib64", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"] {
            push_folder(&mut all, &Path::new(root).join(inner));
        }
    }
    all
}

fn push_folder(all: &mut Vec<PathBuf>, folder: &Path) {
    all.extend(SONAMES.iter().map(|name| folder.join(name)).filter(|path| path.exists()));
}

fn wheel_roots() -> Vec<PathBuf> {
    let mut roots = Vec::new();
    let here = std::env::current_dir().unwrap_or_default();
    roots.extend(here.ancestors().map(|dir| dir.join(".nvrtc")).filter(|dir| dir.is_dir()));
    let homes = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    for lib in homes.map(|home| home.join("lib")).chain([PathBuf::from("/usr/lib"), "/usr/local/lib".into()])
    {
        for entry in std::fs::read_dir(lib).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                roots.extend(["site-packages", "dist-packages"].map(|inner| entry.path().join(inner)));
            }
        }
    }
    roots
}

/// The builtins that `library` will ask for by bare name: loaded first, so that the loader finds them.
pub(super) fn builtins_beside(library: &Path) -> Vec<PathBuf> {
    let Some(folder) = library.parent().filter(|p| !p.as_os_str().is_empty()) else { return Vec::new() };
    let major = library.extension().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("libnvrtc-builtins.so.{major}");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect()
}
