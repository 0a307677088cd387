//! `flex mask`: how a mask of the library cuts the attention matrix into tiles.

mod figures;

use std::fmt;
use std::path::PathBuf;

use flex_attention::library::{self, LibraryMask};
use flex_attention::prelude::*;
use serde::Serialize;

use crate::bench::Backend;
use crate::error::ProgramError;
use crate::output::Output;
use crate::picture::{framed, write_file};
use crate::progress::Progress;
use crate::timing::{Repeated, repeated};

/// Which mask, how large, and where to draw it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A mask of the library; `flex mask list` names them, `flex mask figures` measures them all at the lengths of
    /// docs/block-masks.md.
    name: String,
    /// Queries and keys; 2048 unless chosen.
    #[arg(long, value_name = "TOKENS")]
    seq_len: Option<usize>,
    /// Queries and keys a tile.
    #[arg(long, default_value_t = 128)]
    block_size: usize,
    /// Who looks at the tiles that the analysis cannot decide.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// The GPU, by its number from 0.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// Draws the mask into a file, as an SVG document.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Draws the mask into a file, as a PNG image.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Built {
    case: String,
    seq_len: usize,
    block_size: usize,
    backend: Backend,
    /// The median time of building the block mask, and the least.
    build_ms: f64,
    least_ms: f64,
    /// How many builds these are of.
    builds: usize,
    /// The threads that could take part.
    threads: usize,
    /// The memory of the block mask.
    bytes: usize,
    /// The share of tiles that are skipped, in percent.
    sparsity: f64,
    tiles_total: u64,
    tiles_full: u64,
    tiles_partial: u64,
    /// How often the mask had to be evaluated at a single (query, key).
    elements_evaluated: u64,
    /// Billions of elements evaluated a second, where that is what takes the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluated_g_per_s: Option<f64>,
}

/// A mask that was built, measured and drawn.
#[derive(Debug, Serialize)]
struct Drawn {
    #[serde(flatten)]
    built: Built,
    #[serde(skip)]
    picture: String,
    /// The files it was drawn into.
    #[serde(skip)]
    files: Vec<PathBuf>,
}

/// A mask that can be drawn.
#[derive(Debug, Serialize)]
struct Listed {
    case: &'static str,
    description: &'static str,
}

/// The masks that can be drawn.
struct List(Vec<Listed>);

/// Queries and keys where none are chosen.
const SEQ_LEN: usize = 2048;

pub(crate) fn run(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    match args.name.as_str() {
        "list" => list(output),
        "figures" => figures::run(args, output),
        _ => draw(args, output),
    }
}

fn draw(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    let progress = Progress::new(1, format!("building the mask {}", args.name));
    let (block_mask, built) = measured(args, &args.name, args.seq_len.unwrap_or(SEQ_LEN))?;
    let mut files = Vec::new();
    if let Some(path) = &args.svg {
        write_file(path, block_mask.svg(0, 0))?;
        files.push(path.clone());
    }
    if let Some(path) = &args.png {
        write_file(path, block_mask.png(0, 0))?;
        files.push(path.clone());
    }
    drop(progress);
    output.print(&Drawn { built, picture: framed(&block_mask), files })
}

/// Builds a mask of the library again and again.
fn measured(args: &Args, name: &str, seq_len: usize) -> Result<(BlockMask, Built), ProgramError> {
    let block_size = args.block_size;
    let mask = library::mask_by_name(name, seq_len)?;
    let extent = Extent { batch: 1, heads: 1, q_len: seq_len, kv_len: seq_len };
    let options = BlockMaskOptions { block_size: block_size.into(), ..BlockMaskOptions::default() };
    let device = args.backend.device(args.device)?;
    let build = || -> Result<BlockMask, flex_attention::Error> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => gpu.create_block_mask_with(&mask, extent, options),
            _ => Ok(BlockMask::builder(&mask).options(options).build(extent)?),
        }
    };
    let block_mask = build()?;
    let Repeated { median_ms: build_ms, least_ms, calls: builds } = repeated(|| build().map(drop))?;
    let built = Built {
        case: name.into(),
        seq_len,
        block_size,
        backend: args.backend,
        build_ms,
        least_ms,
        builds,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        bytes: block_mask.bytes(),
        sparsity: block_mask.sparsity(),
        tiles_total: block_mask.tiles_total(),
        tiles_full: block_mask.tiles_full(),
        tiles_partial: block_mask.tiles_partial(),
        elements_evaluated: block_mask.elements_evaluated(),
        evaluated_g_per_s: Some(block_mask.elements_evaluated() as f64 / build_ms / 1e6)
            .filter(|rate| *rate > 0.0),
    };
    Ok((block_mask, built))
}

fn list(output: &mut Output) -> Result<(), ProgramError> {
    let listed = |m: &LibraryMask| Listed { case: m.name, description: m.description };
    let masks: Vec<Listed> = library::MASKS.iter().map(listed).collect();
    if output.is_json() {
        return masks.iter().try_for_each(|mask| output.json(mask));
    }
    output.text(&List(masks))
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Listed { case, description }) in self.0.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{case:16} {description}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Built { seq_len, block_size, build_ms, bytes, tiles_total, tiles_full, tiles_partial, .. } =
            &self.built;
        let built = &self.built;
        writeln!(f, "{}\n", self.picture)?;
        writeln!(f, "  {} over {seq_len} tokens, in tiles of {block_size}×{block_size}", built.case)?;
        let skipped = tiles_total - tiles_full - tiles_partial;
        writeln!(
            f,
            "  {tiles_total} tiles: {skipped} skipped ({:.1} %), {tiles_full} full, {tiles_partial} partial",
            built.sparsity
        )?;
        let how = match built.elements_evaluated {
            0 => "all of it proved, nothing evaluated".into(),
            n => format!("{n} of {} elements evaluated, the rest proved", seq_len as u128 * seq_len as u128),
        };
        write!(f, "  built in {build_ms:.3} ms (median of {}), {bytes} bytes; {how}", built.builds)?;
        self.files.iter().try_for_each(|path| write!(f, "\n  drawn in {}", path.display()))
    }
}
