//! `flex mask figures`: every mask of the library at the lengths at which docs/block-masks.md has figures of it.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{Args, Built, measured};
use crate::error::ProgramError;
use crate::output::Output;
use crate::progress::Progress;

/// Lengths of masks that are measured at several.
const LONG: [usize; 2] = [1 << 17, 1 << 20];

/// The masks and the lengths at which they are measured. Those on grids have the length of theirs: 512² pixels, 48³
/// latents.
const FIGURES: &[(&str, &[usize])] = &[
    ("causal", &[1 << 17, 1 << 20, 1 << 24]),
    ("sliding_window", &LONG),
    ("prefix_lm", &LONG),
    ("document", &LONG),
    ("document_causal", &LONG),
    ("packed_causal", &LONG),
    ("global_sliding", &LONG),
    ("natten", &[512 * 512]),
    ("block_diffusion", &[1 << 17]),
    ("sta_3d", &[48 * 48 * 48]),
    ("tree", &[1 << 14]),
    ("permuted_tiles", &[1 << 14]),
    ("xor_tiles", &[1 << 14]),
    ("unprovable", &[1 << 14]),
];

/// Measures them one after another; at one length where one is chosen.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), ProgramError> {
    let cases: Vec<(&str, usize)> = match &args.seq_len {
        Some(len) => FIGURES.iter().map(|&(name, _)| (name, *len)).collect(),
        None => FIGURES.iter().flat_map(|&(name, lens)| lens.iter().map(move |&len| (name, len))).collect(),
    };
    let mut rows = Vec::new();
    let progress = Progress::new(cases.len(), "");
    for (name, len) in cases {
        progress.step(format!("{name} over {len} tokens"));
        let (_, built) = measured(args, name, len)?;
        progress.done();
        match output.is_json() {
            true => output.json(&built)?,
            false => rows.push(built),
        }
    }
    drop(progress);
    if output.is_json() { Ok(()) } else { output.text(&Rows(rows)) }
}

struct Rows(Vec<Built>);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let headers = [
            "mask",
            "tokens",
            "block",
            "median ms",
            "least ms",
            "bytes",
            "skipped %",
            "full",
            "partial",
            "evaluated",
            "G elements/s",
        ];
        table.set_header(headers);
        for built in &self.0 {
            table.add_row([
                built.case.clone(),
                built.seq_len.to_string(),
                built.block_size.to_string(),
                format!("{:.3}", built.build_ms),
                format!("{:.3}", built.least_ms),
                built.bytes.to_string(),
                format!("{:.2}", built.sparsity),
                built.tiles_full.to_string(),
                built.tiles_partial.to_string(),
                built.elements_evaluated.to_string(),
                built.evaluated_g_per_s.map_or("".into(), |rate| format!("{rate:.2}")),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}
