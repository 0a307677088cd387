//! When and how a problem is decoded.

use std::ops::Range;

use super::super::item::Item;
use super::super::kernel::{HeadRows, InPlace, TILE_KEYS};
use super::super::split;
use crate::attention::{Problem, Shape};
use crate::isa::{Available, InstructionSet};

/// Up to this many rows a key/value head (queries times query heads), reading in place is faster than packing.
const MOST_ROWS: usize = 16;

/// Up to this many, vectors keep pace with memory, and read it better than tile registers do.
const MOST_ROWS_OF_VECTORS: usize = 4;

/// Parts are this long, …
const LONGEST_PART: usize = 8192;
/// … or shorter, down to this, …
const SHORTEST_PART: usize = 1024;
/// … where there would be fewer than this many.
const ENOUGH_PARTS: usize = 64;

/// The kernels for a problem that is to be decoded in place; `None` if packing is better or needed.
pub(in super::super) fn kernels(
    problem: &Problem,
    shape: &Shape,
    isa: Available,
) -> Option<&'static InPlace> {
    let rows = shape.group() * shape.q_len;
    let side_by_side = [problem.key, problem.value].iter().all(|x| HeadRows::new(x, 0, 0).is_some());
    let isa = match isa.set() {
        InstructionSet::Amx if rows <= MOST_ROWS_OF_VECTORS => Available::new(InstructionSet::Avx512),
        _ => isa,
    };
    (rows <= MOST_ROWS && side_by_side)
        .then(|| InPlace::new(isa, problem.query.dtype(), shape.head_dim, shape.value_dim))
}

/// The keys of a part: a multiple of the keys of a tile.
pub(in super::super) fn part_keys(shape: &Shape) -> usize {
    let all = shape.batch * shape.kv_heads * shape.kv_len;
    let good = (all / ENOUGH_PARTS).clamp(SHORTEST_PART, LONGEST_PART);
    good.max(shape.kv_len.div_ceil(split::most_parts(shape))).next_multiple_of(TILE_KEYS)
}

/// Puts an item for each part of some heads, numbered `batch · kv_heads + kv_head`, into an empty list. Their results are
/// `[heads, parts]`.
///
/// All heads have their turn with some tokens before the next ones come: where the heads of a token lie side by side,
/// pages of memory are then used by all heads while they are known.
pub(in super::super) fn items(shape: &Shape, heads: Range<usize>, items: &mut Vec<Item>) {
    let (each, group) = (part_keys(shape), shape.group());
    let parts = shape.kv_len.div_ceil(each);
    items.reserve(heads.len() * parts);
    for part in 0..parts {
        let keys = part * each..((part + 1) * each).min(shape.kv_len);
        for (i, head) in heads.clone().enumerate() {
            let (batch, kv_head) = (head / shape.kv_heads, head % shape.kv_heads);
            items.push(Item {
                batch,
                kv_head,
                heads: kv_head * group..(kv_head + 1) * group,
                queries: 0..shape.q_len,
                cost: keys.len() as u64,
                keys: keys.clone(),
                partial: (parts > 1).then(|| (i * parts + part) * group * shape.q_len),
            });
        }
    }
}
