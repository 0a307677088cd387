//! `flex bench`: how fast attention is on the cases that other implementations are measured on.

mod case;
#[cfg(feature = "cuda")]
mod cuda;
mod reading;

use std::fmt;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use flex_attention::prelude::*;
use flex_attention::{Error, FlexAttention};
use flex_core::cpu::{CpuOptions, peak_gflops};
use serde::Serialize;

use crate::error::ProgramError;
use crate::inputs::normal_tensor;
use crate::output::Output;
use crate::progress::Progress;
use crate::sampled::Sampled;
use crate::timing::median_ms;
use case::Case;
use reading::Reading;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cases, separated by commas; all that fit the sequence length unless given.
    #[arg(long, value_delimiter = ',')]
    case: Vec<Case>,
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Sequences.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Query heads.
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Key and value heads; as many as query heads unless given.
    #[arg(long)]
    kv_heads: Option<usize>,
    /// Queries and keys a sequence.
    #[arg(long, default_value_t = 2048)]
    seq_len: usize,
    /// Queries a sequence of the case `decode`.
    #[arg(long, default_value_t = 1)]
    queries: usize,
    /// Keys and values of so many layers, one call each in turn, in the case `decode` on the CPU: a real decoder's do not
    /// stay in a cache.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    layers: u32,
    /// Components of a query, a key and a value.
    #[arg(long, default_value_t = 64)]
    head_dim: usize,
    /// The type of the elements.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
    /// Queries and keys a tile of the block mask.
    #[arg(long, default_value_t = 128)]
    block_size: usize,
    /// The GPU, by its number from 0.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// The kernel on the GPU; the one that calls choose unless given.
    #[arg(long, value_enum)]
    kernel: Option<GpuKernel>,
    /// Threads on the CPU, 1 to 1024; all cores unless given.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

/// Where attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// The cores of this machine.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A kernel to insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum GpuKernel {
    /// For sm_80 and newer.
    Portable,
    /// For Hopper.
    Sm90,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::BF16,
        }
    }
}

/// One measured case.
#[derive(Debug, Serialize)]
struct Measured {
    case: &'static str,
    backend: Backend,
    /// The kernel that was insisted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<GpuKernel>,
    shape: String,
    dtype: DType,
    /// The median time of a call.
    ms: f64,
    /// Floating-point operations a second, counting 4·head_dim for every pair that the mask keeps.
    gflops: f64,
    /// What the micro-kernel alone reaches, measured before and after the case; on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_gflops: Option<f64>,
    /// How fast keys and values are read; of the case `decode` on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<Reading>,
    /// ‖out − reference‖ / ‖reference‖ over sampled rows, against float64.
    rel_err: f64,
    /// The largest one of a row.
    max_rel_err: f64,
    mask_build_ms: f64,
    sparsity: f64,
}

/// The measured cases as a table.
struct Measurements(Vec<Measured>);

impl fmt::Display for Measurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["case", "ms", "GFLOP/s", "of peak", "skipped", "max rel err", "mask ms"]);
        for m in &self.0 {
            table.add_row([
                m.case.to_string(),
                format!("{:.2}", m.ms),
                format!("{:.1}", m.gflops),
                m.peak_gflops.map_or_else(String::new, |peak| format!("{:.2}", m.gflops / peak)),
                format!("{:.1} %", m.sparsity),
                format!("{:.1e}", m.max_rel_err),
                format!("{:.3}", m.mask_build_ms),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if let Some(first) = self.0.first() {
            write!(f, "{} {} on {}", first.shape, first.dtype, argument(first.backend))?;
            first.kernel.map_or(Ok(()), |kernel| write!(f, ", kernel {}", argument(kernel)))?;
            writeln!(f)?;
        }
        write!(f, "{table}\nGFLOP/s count only the pairs that the mask keeps.")?;
        let peaks = self.0.iter().filter_map(|m| m.peak_gflops);
        if let Some(peak) = peaks.reduce(f64::max) {
            write!(f, " The peak is that of the micro-kernel alone in this run: {peak:.0} GFLOP/s.")?;
        }
        self.0.iter().filter_map(|m| m.reading.as_ref()).try_for_each(|reading| write!(f, "\n{reading}"))
    }
}

/// As it is written on the command line.
fn argument(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
}

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    let cases = match args.case.as_slice() {
        [] => Case::all(args.seq_len),
        cases => cases.to_vec(),
    };
    let setup = Setup::new(args)?;
    let progress = Progress::new(cases.len(), "");
    let mut measured = Vec::new();
    for case in cases {
        progress.step(case.name());
        let result = setup.measure(case)?;
        progress.done();
        if output.is_json() {
            output.json(&result)?;
        }
        measured.push(result);
    }
    drop(progress);
    if output.is_json() { Ok(()) } else { output.text(&Measurements(measured)) }
}

/// The inputs that all cases share.
struct Setup<'a> {
    args: &'a Args,
    device: Device,
    /// In host memory, where errors are measured.
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

impl Backend {
    /// Where tensors have to be for it.
    pub(crate) fn device(self, ordinal: usize) -> Result<Device, ProgramError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(ordinal).map_err(|e| ProgramError::NoGpu { reason: e.to_string() }),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => {
                let reason = format!("GPU {ordinal} was asked for, and this build has no feature `cuda`");
                Err(ProgramError::NoGpu { reason })
            }
        }
    }
}

impl<'a> Setup<'a> {
    fn new(args: &'a Args) -> Result<Self, ProgramError> {
        if let (Some(kernel), Backend::Cpu) = (args.kernel, args.backend) {
            return Err(ProgramError::KernelWithoutGpu { kernel: argument(kernel) });
        }
        let kv_heads = args.kv_heads.unwrap_or(args.heads);
        let tensor = |seed, heads| {
            normal_tensor(seed, [args.batch, heads, args.seq_len, args.head_dim], args.dtype.into())
        };
        Ok(Self {
            args,
            device: args.backend.device(args.device)?,
            query: tensor(1, args.heads)?,
            key: tensor(2, kv_heads)?,
            value: tensor(3, kv_heads)?,
        })
    }

    /// A call of attention with the options of the command line.
    fn call<'c>(
        &self,
        [query, key, value]: [&'c Tensor; 3],
        (score, block_mask): (Option<&'c ScoreMod>, Option<&'c BlockMask>),
    ) -> FlexAttention<'c> {
        let mut call = flex_attention(query, key, value);
        if let Some(score) = score {
            call = call.score_mod(score);
        }
        if let Some(block_mask) = block_mask {
            call = call.block_mask(block_mask);
        }
        if let Some(threads) = self.args.threads {
            call = call.threads(threads);
        }
        #[cfg(feature = "cuda")]
        {
            call = call.cuda(cuda::options(self.args.kernel));
        }
        call
    }

    /// Keys and values of every layer, each in memory of its own.
    fn layers(&self, key: &Tensor, value: &Tensor) -> Result<Vec<[Tensor; 2]>, Error> {
        let mut layers = vec![[key.clone(), value.clone()]];
        for _ in 1..self.args.layers {
            layers.push([key.to_dtype(key.dtype())?, value.to_dtype(value.dtype())?]);
        }
        Ok(layers)
    }

    fn measure(&self, case: Case) -> Result<Measured, ProgramError> {
        let &Args { batch, heads, seq_len, head_dim, .. } = self.args;
        let mask = case.mask(seq_len)?;
        let score = case.score(heads, seq_len)?;
        let q_len = case.queries(self.args.queries, seq_len)?;
        let host_query = self.query.narrow(2, 0, q_len)?;
        let extent = Extent { batch, heads, q_len, kv_len: seq_len };
        let build = |mask: &MaskMod| BlockMask::builder(mask).block_size(self.args.block_size).build(extent);
        let block_mask = mask.as_ref().map(build).transpose()?;
        let mask_build_ms = match &mask {
            Some(mask) => median_ms(|| build(mask).map(drop))?,
            None => 0.0,
        };

        let [query, key, value] =
            [host_query.to(&self.device)?, self.key.to(&self.device)?, self.value.to(&self.device)?];
        let mods = (score.as_ref(), block_mask.as_ref());
        let call = || self.call([&query, &key, &value], mods);
        let mut out = call().run()?;
        let cpu = CpuOptions { threads: self.args.threads, ..CpuOptions::default() };
        let peak = || (self.args.backend == Backend::Cpu).then(|| peak_gflops(&cpu, key.dtype()));
        let (mut peak_gflops, mut reading) = (peak(), None);
        let ms = match self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => cuda::median_ms(gpu, || call().run_into(&mut out))?,
            _ if case == Case::Decode => {
                let layers = self.layers(&key, &value)?;
                let call =
                    |[key, value]: &[Tensor; 2]| self.call([&query, key, value], mods).run_into(&mut out);
                let (ms, measured) = reading::measure(&cpu, &layers, call)?;
                reading = Some(measured);
                ms
            }
            _ => median_ms(|| call().run_into(&mut out))?,
        };
        peak_gflops = peak_gflops.zip(peak()).map(|(before, after)| before.max(after));
        let seen = q_len as f64 / seq_len as f64;
        let pairs = case.unmasked_pairs(seq_len) as f64 * seen * (batch * heads) as f64;
        let sampled = Sampled {
            query: &host_query,
            key: &self.key,
            value: &self.value,
            mask: mask.as_ref(),
            score: score.as_ref(),
        };
        let errors = sampled.errors(&out)?;
        Ok(Measured {
            case: case.name(),
            backend: self.args.backend,
            kernel: self.args.kernel,
            shape: format!("B{batch}_H{heads}_{}_S{seq_len}_D{head_dim}", key.shape()[1]),
            dtype: query.dtype(),
            ms,
            gflops: pairs * 4.0 * head_dim as f64 / ms / 1e6,
            peak_gflops,
            reading,
            rel_err: errors.overall,
            max_rel_err: errors.worst_row,
            mask_build_ms,
            sparsity: block_mask.as_ref().map_or(0.0, BlockMask::sparsity),
        })
    }
}
