//! Attention on the CPU.
//!
//! A call is cut into items: some queries of the heads that share a key/value head. An item walks the tiles of
//! keys that its block mask does not skip. Each tile of key and value is packed once for the item and used by all its
//! blocks of rows: scores = query · keyᵀ, the score mod, the mask where the tile is partial, one step of the online
//! softmax, and out += weights · value. Nothing of the size of the attention matrix is ever stored.
//!
//! Exact cases: a row that keeps no key, or whose scores all are −∞, gives out 0, lse −∞ and max −∞. A kept score that
//! is NaN or +∞ makes the row NaN (out, lse and max). Keys that are not kept in a partial tile have the weight 0, so
//! their values must be finite numbers.

mod decode;
mod float16;
mod item;
mod kernel;
mod options;
mod output;
mod pack;
mod pass;
mod peak;
mod read;
mod schedule;
mod split;
#[cfg(test)]
mod tests;
mod tiles;
mod workspace;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::attention::{AttentionError, ElementsMut, Problem};
use crate::isa::{Available, InstructionSet};
use crate::rows::RowProgram;
use item::{Item, Job};
use kernel::{InPlace, Kernels, Precision};
use output::Output;
use tiles::Tiles;
use workspace::Plan;

pub use options::CpuOptions;
pub use peak::peak_gflops;
pub use read::ReadLoop;

/// Computes out = softmax(where(mask, score_mod(query·keyᵀ·scale), −∞))·value.
///
/// `out` is contiguous `[batch, heads, q_len, value_dim]` in the dtype of query; `lse` (natural logarithm of the sum of
/// exponentials) and `max_scores` (the largest modified score) are contiguous `[batch, heads, q_len]`. Products and sums
/// are f32, whatever the dtype. Results that are not wanted need not be computed, so that the last digit of `out` may depend
/// on which are.
///
/// # Errors
/// If the problem does not fit together, a buffer has the wrong dtype or length, or a mod faults: then the contents of
/// the buffers are unspecified. Which fault is returned does not depend on the threads.
pub fn attention(
    problem: &Problem,
    options: &CpuOptions,
    out: ElementsMut,
    lse: Option<&mut [f32]>,
    max_scores: Option<&mut [f32]>,
) -> Result<(), AttentionError> {
    attention_with(problem, options, Preparation::WhereWorthwhile, out, lse, max_scores)
}

/// Whether queries, keys and values are prepared for faster kernels: f16 and f32 become [planes](kernel::Packing::planes),
/// and [lengths](pass::Bound) bound the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    WhereWorthwhile,
    /// So that small problems can be tested.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    Always,
}

fn attention_with(
    problem: &Problem,
    options: &CpuOptions,
    preparation: Preparation,
    out: ElementsMut,
    lse: Option<&mut [f32]>,
    max_scores: Option<&mut [f32]>,
) -> Result<(), AttentionError> {
    let shape = problem.validate()?;
    if out.dtype() != problem.query.dtype() {
        let (expected, got) = (problem.query.dtype(), out.dtype());
        return Err(AttentionError::DTypeMismatch { tensor: "out", expected, got });
    }
    let lengths = [
        ("out", shape.rows() * shape.value_dim, Some(out.len())),
        ("lse", shape.rows(), lse.as_ref().map(|x| x.len())),
        ("max_scores", shape.rows(), max_scores.as_ref().map(|x| x.len())),
    ];
    for (output, expected, got) in lengths {
        if let Some(got) = got.filter(|got| *got != expected) {
            return Err(AttentionError::OutputLength { output, expected, got });
        }
    }

    let isa = Available::new(options.instruction_set.unwrap_or_else(InstructionSet::current));
    let tiles = Tiles { mask: problem.block_mask, kv_len: shape.kv_len };
    // A block mask proves that its mask does not fault.
    let mask = problem.block_mask.map(|mask| RowProgram::proved(mask.mask_mod().bound()));
    let score = problem.score_mod.map(|score| RowProgram::new(score.bound()));
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let kernels = Kernels::new(isa, problem.query.dtype());
    let job = Job {
        call: CALLS.fetch_add(1, Ordering::Relaxed),
        problem,
        shape,
        isa,
        kernels: match preparation {
            Preparation::WhereWorthwhile if !schedule::fills_tiles(&shape) => {
                kernels.for_all_numbers().unwrap_or(kernels)
            }
            _ => kernels,
        },
        preparation,
        tiles,
        mask: mask.as_ref(),
        score: score.as_ref(),
        precision: if lse.is_some() { Precision::Sums } else { Precision::Weights },
        wants_max: max_scores.is_some(),
    };
    let in_place = decode::kernels(problem, &shape, isa);
    let splits = match in_place {
        Some(_) => shape.kv_len.div_ceil(decode::part_keys(&shape)),
        None => schedule::splits(&shape),
    };
    let output = Output::new(out, shape.rows(), shape.value_dim, lse, max_scores);
    let mut plan = workspace::take_plan();
    let all_heads = shape.batch * shape.kv_heads;
    let at_a_time = match in_place {
        None if splits == 1 => all_heads,
        _ => split::heads_at_a_time(&shape, splits),
    };
    for first in (0..all_heads).step_by(at_a_time) {
        let heads = first..all_heads.min(first + at_a_time);
        let Plan { items, partials } = &mut plan;
        items.clear();
        match in_place {
            Some(_) => decode::items(&shape, heads.clone(), items),
            None => schedule::items(&shape, heads.clone(), &tiles, job.kernels, items),
        }
        let partial_output = (splits > 1).then(|| {
            partials.prepare(&shape, heads, splits);
            partials.output()
        });
        run_items(&job, in_place, options.threads, items, partial_output.as_ref().unwrap_or(&output))?;
        if splits > 1 {
            plan.partials.combine(&shape, &output);
        }
    }
    workspace::keep_plan(plan);
    Ok(())
}

/// Runs the items on some threads.
///
/// # Errors
/// The fault of the first item in the list.
fn run_items(
    job: &Job,
    in_place: Option<&InPlace>,
    threads: Option<usize>,
    items: &[Item],
    to: &Output,
) -> Result<(), AttentionError> {
    let fault: Mutex<Option<(usize, AttentionError)>> = Mutex::new(None);
    schedule::run(threads, items.len(), |i| {
        let result = workspace::with(|workspace| match in_place {
            Some(in_place) => decode::run(job, in_place, &items[i], to, workspace),
            None => job.run(&items[i], to, workspace),
        });
        if let Err(error) = result {
            let mut first = fault.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(index, _)| i < *index) {
                *first = Some((i, error));
            }
        }
    });
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
