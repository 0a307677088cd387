//! From a specification to a kernel: memory, bundle, disk, and only then the compiler.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bundle::Bundle;
use crate::cache::DiskCache;
use crate::nvrtc::{Compilation, Nvrtc};
use crate::{Arch, CodegenError, CompiledKernel, KernelSource, KernelSpec, MaskTilesSpec, Resources, env};

/// How often a [`Compiler`] found a kernel where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Kernels that NVRTC compiled.
    pub compiles: u64,
    /// Kernels that were in memory.
    pub memory_hits: u64,
    /// Kernels that were in the bundle.
    pub bundle_hits: u64,
    /// Kernels that were on disk.
    pub disk_hits: u64,
}

/// What kernels are asked for by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Forward(KernelSpec),
    MaskTiles(MaskTilesSpec),
}

impl Wanted {
    fn arch(&self) -> Arch {
        match self {
            Self::Forward(spec) => spec.arch,
            Self::MaskTiles(spec) => spec.arch,
        }
    }

    fn source(&self) -> Result<KernelSource, CodegenError> {
        match self {
            Self::Forward(spec) => KernelSource::new(spec),
            Self::MaskTiles(spec) => spec.source(),
        }
    }
}

/// A place that is filled once by whoever comes first; others wait.
type Slot = Arc<Mutex<Option<Arc<CompiledKernel>>>>;

/// Makes kernels and keeps them. To be shared between threads: a kernel asked for by several at once is compiled once,
/// different kernels are compiled side by side.
#[derive(Debug, Default)]
pub struct Compiler {
    disk: Option<DiskCache>,
    bundle: Option<Bundle>,
    bundle_only: bool,
    memory: Mutex<HashMap<Wanted, Slot>>,
    compiles: AtomicU64,
    memory_hits: AtomicU64,
    bundle_hits: AtomicU64,
    disk_hits: AtomicU64,
}

impl Compiler {
    /// A compiler with the disk cache that the [environment](crate::env) asks for. Nothing is loaded or read before the
    /// first kernel.
    pub fn new() -> Self {
        Self { disk: env::cache_dir().map(DiskCache::new), ..Self::default() }
    }

    /// With its disk cache in `dir`, or with none.
    pub fn with_cache_dir(self, dir: Option<PathBuf>) -> Self {
        Self { disk: dir.map(DiskCache::new), ..self }
    }

    /// With kernels that were compiled ahead of time. What the bundle lacks is compiled, unless `bundle_only`.
    pub fn with_bundle(self, bundle: Bundle, bundle_only: bool) -> Self {
        Self { bundle: Some(bundle), bundle_only, ..self }
    }

    /// How often kernels were found where.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            compiles: read(&self.compiles),
            memory_hits: read(&self.memory_hits),
            bundle_hits: read(&self.bundle_hits),
            disk_hits: read(&self.disk_hits),
        }
    }

    /// Loads NVRTC and has it compile an empty kernel, if the first kernel asked for will have to be compiled anyway: there
    /// is no bundle, and nothing on disk. That takes a few tenths of a second, for which something else often waits; what
    /// goes wrong is found again, and reported, by the first kernel.
    pub fn ready(&self, arch: Arch) {
        if self.bundle.is_some() || self.disk.as_ref().is_some_and(|disk| !disk.is_empty()) {
            return;
        }
        let options = KernelSource::options(arch, false);
        let readied = Nvrtc::get().and_then(|nvrtc| {
            nvrtc.compile("ready.cu", "extern \"C\" __global__ void ready() {}", &[], &options)
        });
        if let Err(error) = readied {
            tracing::debug!(%error, "NVRTC is not ready");
        }
    }

    /// The kernel of a specification.
    ///
    /// # Errors
    /// If the specification contradicts itself, NVRTC is missing or too old for the architecture, or (a defect of this
    /// crate) the source is refused. Errors are not remembered.
    pub fn kernel(&self, spec: &KernelSpec) -> Result<Arc<CompiledKernel>, CodegenError> {
        self.get(Wanted::Forward(spec.clone()))
    }

    /// The kernel that judges tiles of a mask.
    ///
    /// # Errors
    /// As [`kernel`](Self::kernel).
    pub fn mask_tiles(&self, spec: &MaskTilesSpec) -> Result<Arc<CompiledKernel>, CodegenError> {
        self.get(Wanted::MaskTiles(spec.clone()))
    }

    fn get(&self, wanted: Wanted) -> Result<Arc<CompiledKernel>, CodegenError> {
        let slot = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.entry(wanted.clone()).or_default().clone()
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &*slot {
            self.memory_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(kernel.clone());
        }
        let kernel = self.find_or_compile(&wanted)?;
        *slot = Some(kernel.clone());
        Ok(kernel)
    }

    /// The kernels that this compiler has made or found so far, each with what it is: what a program that was run once
    /// writes into a [`Bundle`] to run without NVRTC later.
    pub fn kernels(&self) -> Vec<(String, Arc<CompiledKernel>)> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let made = |slot: &Slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let described = |wanted: &Wanted| wanted.source().map(|source| source.describe).unwrap_or_default();
        let mut kernels: Vec<_> =
            memory.iter().filter_map(|(wanted, slot)| Some((described(wanted), made(slot)?))).collect();
        kernels.sort_by(|a, b| a.1.key.cmp(&b.1.key));
        kernels
    }

    fn find_or_compile(&self, wanted: &Wanted) -> Result<Arc<CompiledKernel>, CodegenError> {
        let source = wanted.source()?;
        let key = source.key();
        if let Some(kernel) = self.bundle.as_ref().and_then(|bundle| bundle.get(&key)) {
            self.bundle_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(kernel.clone());
        }
        if self.bundle_only {
            return Err(CodegenError::NotInBundle { key, describe: source.describe });
        }
        let nvrtc = Nvrtc::get()?;
        nvrtc.check_arch(wanted.arch())?;
        let version = nvrtc.version();
        if let Some(kernel) = self.disk.as_ref().and_then(|disk| disk.load(&key, &version)) {
            self.disk_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::new(kernel));
        }
        let compiled = source.compile_with(&nvrtc);
        dump(&source, &key, compiled.as_ref().ok());
        let compiled = compiled?;
        self.compiles.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            kernel = source.describe,
            key,
            compile_ms = compiled.compile_ms,
            registers = compiled.log.registers,
            spill_bytes = compiled.log.spill_bytes,
            "compiled"
        );
        let kernel = source.into_kernel(key, compiled);
        if let Some(disk) = &self.disk {
            disk.store(&kernel, &version);
        }
        Ok(Arc::new(kernel))
    }
}

/// Writes the source where the user wants to read it.
fn dump(source: &KernelSource, key: &str, compiled: Option<&Compilation>) {
    let Some(dir) = env::dump_cuda_dir() else { return };
    let found = compiled.map_or("refused by NVRTC".to_owned(), |c| format!("{:?}", c.log));
    let text = format!("{}\n// {found}\n", source.text);
    let written =
        std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join(format!("{key}.cu")), text));
    if let Err(error) = written {
        tracing::warn!(dir = %dir.display(), %error, "source not written");
    }
}

impl KernelSource {
    /// Compiles the source, past all caches.
    ///
    /// # Errors
    /// If NVRTC refuses the source.
    pub fn compile_with(&self, nvrtc: &Nvrtc) -> Result<Compilation, CodegenError> {
        Ok(nvrtc.compile(&format!("{}.cu", self.entry), &self.text, &self.headers, &self.options)?)
    }

    fn into_kernel(self, key: String, compiled: Compilation) -> CompiledKernel {
        CompiledKernel {
            cubin: compiled.cubin,
            entry: self.entry.into(),
            template: self.schedule.template,
            threads: self.threads,
            smem_bytes: self.smem_bytes,
            tile_q: self.schedule.tile_q,
            tile_kv: self.schedule.tile_kv,
            captures: self.captures,
            fault_sites: self.fault_sites,
            resources: Resources {
                registers: compiled.log.registers,
                spill_bytes: compiled.log.spill_bytes,
                stack_bytes: compiled.log.stack_bytes,
                static_smem_bytes: compiled.log.static_smem_bytes,
                warnings: compiled.log.warnings,
                compile_ms: compiled.compile_ms,
            },
            key,
        }
    }
}
