//! `flex doctor`: what this machine has and what would be used.

use std::fmt;
use std::path::PathBuf;

use flex_attention::prelude::*;
use flex_core::isa::InstructionSet;
use serde::Serialize;

use crate::error::ProgramError;
use crate::output::Output;

#[derive(Debug, Serialize)]
struct Doctor {
    version: &'static str,
    /// Where [`Device::best`] computes.
    would_use: String,
    cpu: Cpu,
    gpus: Vec<Gpu>,
    /// Why there is no GPU to use.
    gpu_error: Option<String>,
    nvrtc: Nvrtc,
    cache: Cache,
}

#[derive(Debug, Serialize)]
struct Cpu {
    architecture: &'static str,
    threads: usize,
    /// The set of instructions that attention uses: the best one, or the one of `FLEX_CPU_ISA`.
    instruction_set: &'static str,
    /// What the CPU has.
    features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Gpu {
    ordinal: usize,
    name: String,
    architecture: String,
    multiprocessors: u32,
    memory_bytes: usize,
}

/// The run-time compiler.
#[derive(Debug, Default, Serialize)]
struct Nvrtc {
    library: Option<PathBuf>,
    version: Option<String>,
    /// Why there is none, and where it was looked for.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Cache {
    /// `None` where nothing is kept.
    directory: Option<PathBuf>,
    exists: bool,
}

pub(crate) fn run(output: &mut Output) -> Result<(), ProgramError> {
    let (gpus, gpu_error) = probe::gpus();
    let directory = probe::cache_directory();
    output.print(&Doctor {
        version: env!("CARGO_PKG_VERSION"),
        would_use: Device::best().to_string(),
        cpu: Cpu {
            architecture: std::env::consts::ARCH,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_set: InstructionSet::current().name(),
            features: cpu_features(),
        },
        gpus,
        gpu_error,
        nvrtc: probe::nvrtc(),
        cache: Cache { exists: directory.as_ref().is_some_and(|directory| directory.is_dir()), directory },
    })
}

/// What only builds with the CUDA backend can know.
#[cfg(feature = "cuda")]
mod probe {
    use flex_attention::cuda::CudaDevice;

    use super::*;

    pub(super) fn gpus() -> (Vec<Gpu>, Option<String>) {
        let count = match CudaDevice::count() {
            Ok(count) => count,
            Err(error) => return (Vec::new(), Some(error.to_string())),
        };
        let (mut gpus, mut first_error) = (Vec::new(), None);
        for ordinal in 0..count {
            match CudaDevice::new(ordinal) {
                Ok(gpu) => gpus.push(Gpu {
                    ordinal,
                    name: gpu.name().into(),
                    architecture: gpu.arch().to_string(),
                    multiprocessors: gpu.multiprocessors(),
                    memory_bytes: gpu.total_memory(),
                }),
                Err(error) => first_error = first_error.or(Some(error.to_string())),
            }
        }
        (gpus, first_error)
    }

    pub(super) fn nvrtc() -> Nvrtc {
        match flex_codegen::nvrtc::Nvrtc::get() {
            Ok(nvrtc) => Nvrtc {
                library: Some(nvrtc.path().into()),
                version: Some(nvrtc.version()),
                ..Nvrtc::default()
            },
            Err(error) => Nvrtc { error: Some(error.to_string()), ..Nvrtc::default() },
        }
    }

    pub(super) fn cache_directory() -> Option<PathBuf> {
        flex_codegen::env::cache_dir()
    }
}

#[cfg(not(feature = "cuda"))]
mod probe {
    use super::*;

    const NO_CUDA: &str = "this build has no CUDA backend (feature `cuda`)";

    pub(super) fn gpus() -> (Vec<Gpu>, Option<String>) {
        (Vec::new(), Some(NO_CUDA.into()))
    }

    pub(super) fn nvrtc() -> Nvrtc {
        Nvrtc { error: Some(NO_CUDA.into()), ..Nvrtc::default() }
    }

    pub(super) fn cache_directory() -> Option<PathBuf> {
        None
    }
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
        writeln!(f, "flex {}: attention would run on {}\n", self.version, self.would_use)?;
        let Cpu { architecture, threads, instruction_set, features } = &self.cpu;
        writeln!(
            f,
            "CPU     {architecture}, {threads} threads, attention uses {instruction_set}; has {}",
            features.join(" ")
        )?;
        for Gpu { ordinal, name, architecture, multiprocessors, memory_bytes } in &self.gpus {
            let gib = *memory_bytes as f64 / (1u64 << 30) as f64;
            writeln!(
                f,
                "GPU {ordinal}   {name}: {architecture}, {multiprocessors} multiprocessors, {gib:.0} GiB"
            )?;
        }
        if let Some(error) = &self.gpu_error {
            writeln!(f, "GPU     {error}")?;
        }
        match &self.nvrtc {
            Nvrtc { library: Some(library), version: Some(version), .. } => {
                writeln!(f, "NVRTC   {version}, {}", library.display())?;
            }
            Nvrtc { error, .. } => writeln!(f, "NVRTC   {}", error.as_deref().unwrap_or("not found"))?,
        }
        match &self.cache.directory {
            Some(directory) if self.cache.exists => write!(f, "cache   {}", directory.display()),
            Some(directory) => write!(f, "cache   {} (made when first needed)", directory.display()),
            None => write!(f, "cache   none: compiled kernels are not kept"),
        }
    }
}
