//! `flex mask`: how a mask of the library cuts the attention matrix into tiles.

use std::fmt;
use std::path::PathBuf;

use flex_attention::prelude::*;
use serde::Serialize;

use crate::demo::write_file;
use crate::error::ProgramError;
use crate::output::Output;
use crate::progress::Progress;
use crate::timing::median_ms;

/// Which mask, how large, and where to draw it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A mask of the library; `flex mask list` names them.
    name: String,
    /// Queries and keys.
    #[arg(long, default_value_t = 2048)]
    seq_len: usize,
    /// Queries and keys a tile.
    #[arg(long, default_value_t = 128)]
    block_size: usize,
    /// Draws the mask into a file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Built {
    case: String,
    seq_len: usize,
    block_size: usize,
    /// The median time of building the block mask.
    build_ms: f64,
    /// The memory of the block mask.
    bytes: usize,
    /// The share of tiles that are skipped, in percent.
    sparsity: f64,
    tiles_total: usize,
    tiles_full: usize,
    tiles_partial: usize,
    /// How often the mask had to be evaluated at a single (query, key).
    elements_evaluated: u64,
    #[serde(skip)]
    picture: String,
    #[serde(skip)]
    svg: Option<PathBuf>,
}
