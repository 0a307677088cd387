//! `flex kernel`: the CUDA kernels of mods, compiled without a GPU; ahead of time into a bundle, or to be read.

mod named;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use flex_attention::prelude::*;
use flex_codegen::bundle::Bundle;
use flex_codegen::plan::Force;
use flex_codegen::{Arch, CallRequest, CompiledKernel, Compiler, KernelSource, KernelSpec, Matmul};
use flex_core::attention::Shape;
use flex_core::mask::MaskError;
use serde::Serialize;

use crate::bench::Precision;
use crate::error::ProgramError;
use crate::output::Output;
use crate::progress::Progress;
use named::{Mods, Sizes};

/// Which kernels, for which GPUs, and what of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mods of the library, a mask and a score mod joined by `+` where a kernel has both: `causal`, `causal+alibi`,
    /// `softcap`; `dense` for none.
    #[arg(required = true)]
    names: Vec<String>,
    /// GPU architectures, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "sm_90a")]
    arch: Vec<Arch>,
    /// Components of a query and a key, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "128")]
    head_dim: Vec<usize>,
    /// Components of a value; as of a key unless given.
    #[arg(long)]
    value_dim: Option<usize>,
    /// The types of the elements, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "bf16")]
    dtype: Vec<Precision>,
    /// Multiply f32 on the tensor cores, operands rounded to 11 bits of mantissa.
    #[arg(long)]
    tf32: bool,
    /// Queries and keys a sequence that the tiles are chosen for.
    #[arg(long, default_value_t = 8192)]
    seq_len: usize,
    /// Heads, which captures of the library's mods have an element for.
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Prints the kernel instead of what it takes.
    #[arg(long, value_enum)]
    emit: Option<Emit>,
    /// Writes a bundle of cubins that a program loads without NVRTC.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A form of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// Which kernel it is and why, without compiling it.
    Plan,
    /// The generated CUDA source, without compiling it.
    Cuda,
    /// What ptxas reports.
    Ptxas,
    /// The machine code, by `nvdisasm`.
    Sass,
}

/// One kernel.
#[derive(Debug, Serialize)]
struct Kernel {
    name: String,
    arch: Arch,
    dtype: DType,
    head_dim: u32,
    value_dim: u32,
    template: &'static str,
    tile_q: u32,
    tile_kv: u32,
    /// Why this template and these tiles.
    reason: String,
    /// The name in caches and bundles.
    key: String,
    /// What it takes, unless it was not compiled.
    #[serde(flatten)]
    takes: Option<Takes>,
    /// What was asked for with `--emit`: the CUDA source or the machine code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

/// What a compiled kernel takes of the machine.
#[derive(Debug, Serialize)]
struct Takes {
    /// Registers a thread.
    registers: u32,
    /// Bytes that a thread stores and loads because registers ran out.
    spill_bytes: u32,
    /// Bytes of stack a thread.
    stack_bytes: u32,
    /// Shared memory of a block, static and dynamic.
    smem_bytes: u32,
    warnings: Vec<String>,
    compile_ms: u64,
    cubin_bytes: usize,
}

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    let all = wanted(args)?;
    // What is told of a kernel is what compiling it takes, so caches are left out.
    let compiler = Compiler::new().with_cache_dir(None);
    let mut bundle = Bundle::new();
    let mut kernels = Vec::new();
    let progress = Progress::new(all.len(), "");
    for wanted in all {
        progress.step(format!("{} for {}", wanted.name, wanted.spec.arch));
        let compiled = match (args.emit, &args.out) {
            (Some(Emit::Plan | Emit::Cuda), None) => None,
            _ => Some(compiler.kernel(&wanted.spec)?),
        };
        if let Some(compiled) = &compiled {
            bundle.insert(wanted.name.clone(), Arc::clone(compiled));
        }
        kernels.push(wanted.report(args.emit, compiled.as_deref())?);
        progress.done();
    }
    drop(progress);
    if let Some(folder) = &args.out {
        bundle.write(folder)?;
    }
    if output.is_json() {
        return kernels.iter().try_for_each(|kernel| output.json(kernel));
    }
    match args.emit {
        Some(Emit::Cuda | Emit::Sass) => {
            kernels.iter().filter_map(|k| k.code.as_ref()).try_for_each(|code| output.text(code))
        }
        Some(Emit::Plan | Emit::Ptxas) | None => output.text(&Kernels { kernels, folder: args.out.clone() }),
    }
}

/// A kernel to compile: its name on the command line, its specification and why it was chosen.
struct Wanted {
    name: String,
    spec: KernelSpec,
    reason: String,
}

impl Wanted {
    fn report(self, emit: Option<Emit>, compiled: Option<&CompiledKernel>) -> Result<Kernel, ProgramError> {
        let Self { name, spec, reason } = self;
        let source = KernelSource::new(&spec)?;
        Ok(Kernel {
            name,
            arch: spec.arch,
            dtype: spec.dtype,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            template: spec.schedule.template.name(),
            tile_q: spec.schedule.tile_q,
            tile_kv: spec.schedule.tile_kv,
            reason,
            key: source.key(),
            takes: compiled.map(Takes::of),
            code: match (emit, compiled) {
                (Some(Emit::Cuda), _) => Some(source.text),
                (Some(Emit::Sass), Some(compiled)) => Some(disassemble(&compiled.cubin)?),
                _ => None,
            },
        })
    }
}

impl Takes {
    fn of(compiled: &CompiledKernel) -> Self {
        let resources = &compiled.resources;
        Self {
            registers: resources.registers,
            spill_bytes: resources.spill_bytes,
            stack_bytes: resources.stack_bytes,
            smem_bytes: resources.static_smem_bytes + compiled.smem_bytes,
            warnings: resources.warnings.clone(),
            compile_ms: resources.compile_ms,
            cubin_bytes: compiled.cubin.len(),
        }
    }
}

/// Every name on every architecture with every head dim and dtype.
fn wanted(args: &Args) -> Result<Vec<Wanted>, ProgramError> {
    let &Args { heads, seq_len, value_dim, .. } = args;
    let extent = Extent { batch: 1, heads, q_len: seq_len, kv_len: seq_len };
    extent.validate().map_err(MaskError::from)?;
    let mut all = Vec::new();
    for name in &args.names {
        let mods = Mods::parse(name, Sizes { heads, seq_len })?;
        let mask = mods.mask.as_ref().map(|mask| create_block_mask(mask, extent)).transpose()?;
        for (&arch, &head_dim, &dtype) in product(&args.arch, &args.head_dim, &args.dtype) {
            let dtype: DType = dtype.into();
            let aligned = |dim: usize| (dim * dtype.size()).is_multiple_of(16);
            let tensor = |components| [1, heads, seq_len, components];
            let shape =
                Shape::new(tensor(head_dim), tensor(head_dim), tensor(value_dim.unwrap_or(head_dim)))?;
            let vector_access = aligned(shape.head_dim) && aligned(shape.value_dim);
            let request = CallRequest {
                arch,
                smem_limit: arch.smem_limit(),
                dtype,
                shape,
                vector_access,
                bulk_copies: vector_access,
                positive_scale: true,
                precision: None,
                matmul: if args.tf32 { Matmul::Tf32 } else { Matmul::Accurate },
                force: Force::default(),
                mask: mask.as_ref(),
                score: mods.score.as_ref().map(ScoreMod::bound),
            };
            let plan = request.plan()?;
            all.push(Wanted { name: name.clone(), spec: plan.spec, reason: plan.reason });
        }
    }
    Ok(all)
}

fn product<'a, A, B, C>(
    first: &'a [A],
    second: &'a [B],
    third: &'a [C],
) -> impl Iterator<Item = (&'a A, &'a B, &'a C)> {
    first.iter().flat_map(move |a| second.iter().flat_map(move |b| third.iter().map(move |c| (a, b, c))))
}

/// The machine code of a cubin as text.
fn disassemble(cubin: &[u8]) -> Result<String, ProgramError> {
    let failed = |reason: String| ProgramError::Disassembler { reason };
    let mut file = tempfile::Builder::new().suffix(".cubin").tempfile().map_err(|e| failed(e.to_string()))?;
    file.write_all(cubin).map_err(|e| failed(e.to_string()))?;
    let run = Command::new(nvdisasm()).arg("--print-code").arg(file.path()).output();
    let run = run.map_err(|e| failed(format!("nvdisasm could not be started, {e}")))?;
    if !run.status.success() {
        return Err(failed(String::from_utf8_lossy(&run.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&run.stdout).into_owned())
}

/// The tool that reads machine code: of a `.nvrtc` folder that pip filled, beside or above the working folder, else what
/// the shell finds.
fn nvdisasm() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let fetched = here.ancestors().map(|folder| folder.join(".nvrtc/nvidia/cu13/bin/nvdisasm"));
    fetched.into_iter().find(|path| path.exists()).unwrap_or_else(|| "nvdisasm".into())
}

/// Kernels as a table.
struct Kernels {
    kernels: Vec<Kernel>,
    folder: Option<PathBuf>,
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let mut header = vec!["mods", "arch", "dtype", "dims", "tiles"];
        if self.kernels.iter().any(|k| k.takes.is_some()) {
            header.extend(["registers", "spill", "stack", "smem", "ms", "cubin"]);
        }
        table.set_header(header);
        for k in &self.kernels {
            let mut row = vec![
                k.name.clone(),
                k.arch.to_string(),
                k.dtype.to_string(),
                format!("{}/{}", k.head_dim, k.value_dim),
                format!("{}×{}", k.tile_q, k.tile_kv),
            ];
            if let Some(takes) = &k.takes {
                row.extend([
                    takes.registers.to_string(),
                    takes.spill_bytes.to_string(),
                    takes.stack_bytes.to_string(),
                    takes.smem_bytes.to_string(),
                    takes.compile_ms.to_string(),
                    takes.cubin_bytes.to_string(),
                ]);
            }
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(5) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")?;
        for k in &self.kernels {
            write!(f, "\n{} for {}: {} ({})", k.name, k.arch, k.template, k.reason)?;
            let warnings = k.takes.iter().flat_map(|takes| &takes.warnings);
            warnings.into_iter().try_for_each(|warning| write!(f, "\n  {warning}"))?;
        }
        if let Some(folder) = &self.folder {
            write!(f, "\nbundle written to {}", folder.display())?;
        }
        Ok(())
    }
}
