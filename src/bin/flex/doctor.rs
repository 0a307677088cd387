//! `flex doctor`: what this machine has and what would be used.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::ProgramError;
use crate::output::Output;

#[derive(Debug, Serialize)]
struct Doctor {
    version: &'static str,
    /// What `flex_attention` would compute on.
    would_use: &'static str,
    cpu: Cpu,
    driver: Library,
    nvrtc: Library,
    cache: Cache,
}

#[derive(Debug, Serialize)]
struct Cpu {
    architecture: &'static str,
    threads: usize,
    /// The instruction sets that kernels can use here.
    features: Vec<&'static str>,
}

/// A library that is looked for at run time.
#[derive(Debug, Serialize)]
struct Library {
    found: Option<PathBuf>,
    looked_in: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Cache {
    /// `None` where the machine has no home for it.
    directory: Option<PathBuf>,
    exists: bool,
}

pub(crate) fn run(output: &mut Output) -> Result<(), ProgramError> {
    output.print(&Doctor {
        version: env!("CARGO_PKG_VERSION"),
        would_use: "cpu",
        cpu: Cpu {
            architecture: std::env::consts::ARCH,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            features: cpu_features(),
        },
        driver: Library::find(&["libcuda.so.1", "libcuda.so"], &[]),
        nvrtc: Library::find(
            &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            &[".nvrtc/nvidia/cu13/lib"],
        ),
        cache: cache(),
    })
}

impl Library {
    /// Looks where the dynamic linker does, in CUDA's own folders, and in `extra`.
    fn find(names: &[&str], extra: &[&str]) -> Self {
        let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = extra.iter().map(PathBuf::from).collect();
        folders.extend(std::env::split_paths(&listed).filter(|folder| folder.is_absolute()));
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            folders.extend(std::env::var_os(variable).map(|home| Path::new(&home).join("lib64")));
        }
        let triple = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        folders.extend(["/usr/local/cuda/lib64", &triple, "/usr/lib64", "/usr/lib"].map(PathBuf::from));
        let found =
            folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name))).find(|p| p.exists());
        Self { found, looked_in: folders }
    }
}

fn cache() -> Cache {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("FLEX_CACHE_DIR")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("flex-attention")))
        .or_else(|| Some(set("HOME")?.join(".cache/flex-attention")));
    let exists = directory.as_ref().is_some_and(|directory| directory.is_dir());
    Cache { directory, exists }
}

macro_rules! detected {
    ($detect:ident: $($feature:tt)*) => {
        [$(($feature, std::arch::$detect!($feature))),*]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect()
    };
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    detected!(is_x86_feature_detected: "sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl"
        "avx512bf16" "avx512fp16")
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    detected!(is_aarch64_feature_detected: "neon" "fp16" "bf16" "dotprod" "i8mm" "sve" "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flex {}: attention would run on the {}\n", self.version, self.would_use.to_uppercase())?;
        writeln!(
            f,
            "CPU     {}, {} threads: {}",
            self.cpu.architecture,
            self.cpu.threads,
            self.cpu.features.join(" ")
        )?;
        writeln!(f, "driver  {}", self.driver)?;
        writeln!(f, "NVRTC   {}", self.nvrtc)?;
        match &self.cache.directory {
            Some(directory) if self.cache.exists => write!(f, "cache   {}", directory.display()),
            Some(directory) => write!(f, "cache   {} (made when first needed)", directory.display()),
            None => write!(f, "cache   none: set FLEX_CACHE_DIR or HOME to keep compiled kernels"),
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(found) = &self.found {
            return write!(f, "{}", found.display());
        }
        let looked: Vec<String> = self.looked_in.iter().map(|p| p.display().to_string()).collect();
        write!(f, "not found; looked in {}", looked.join(", "))
    }
}
