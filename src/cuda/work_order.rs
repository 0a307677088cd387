//! The order in which the blocks of a persistent kernel start its work items: query tiles of heads, each with a list of
//! key tiles.
//!
//! Two things pull against each other. Short lists are bound by the memory, so few heads should be worked on at a time:
//! then the keys and values that neighbouring query tiles share are still in the cache. And no block should be left with a
//! long list at the end. So sections of heads follow each other, the longest lists of each first; the last is large enough
//! to share out evenly, and the others fit the cache where lists are short.

use std::cmp::Reverse;
use std::ops::Range;

use flex_core::attention::Shape;

use super::tiling::TiledRuns;

/// The keys and values of a section, in bytes, that stay in the L2 cache beside queries, outputs and the next heads.
const CACHED_BYTES: usize = 16 << 20;

/// Those of the last section, at most: longer ones are read from memory too often.
const LAST_BYTES: usize = 64 << 20;

/// What it takes to begin and end an item, in quarters of a full tile.
const ITEM_COST: u64 = 6;

/// How many query tiles read a key tile, where the memory no longer matters.
const MANY_READERS: u64 = 16;

/// How many key heads are worked on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sections {
    /// In the last section.
    last: usize,
    /// In the others.
    others: usize,
}

/// What sections depend on.
#[derive(Clone, Copy, Debug)]
struct Work<'a> {
    /// The cost of the items of each key head.
    head_costs: &'a [u64],
    /// The cost of the longest item.
    longest: u64,
    kv_tiles: usize,
    kv_head_bytes: usize,
    multiprocessors: usize,
}

impl Sections {
    fn of(work: &Work<'_>) -> Self {
        let heads_of = |bytes: usize| bytes / work.kv_head_bytes.max(1);
        // With more heads at a time, few multiprocessors work on the same one.
        let shared = (work.multiprocessors / 8).max(1);
        let key_tiles = (work.head_costs.len() * work.kv_tiles) as u64;
        let is_short = work.head_costs.iter().sum::<u64>() < 4 * MANY_READERS * key_tiles;
        // Blocks draw their items two ahead, so at the end there must be several times the longest for each.
        let wanted = if is_short { 2 } else { 4 } * work.longest * work.multiprocessors as u64;
        let behind =
            work.head_costs.iter().rev().scan(0, |sum, cost| Some(std::mem::replace(sum, *sum + cost)));
        let last = behind
            .take_while(|&behind| behind < wanted)
            .take(heads_of(LAST_BYTES).max(shared))
            .count()
            .max(1);
        Self { last, others: if is_short { heads_of(CACHED_BYTES).max(1) } else { last.min(shared) } }
    }

    /// The key heads of each section.
    fn split(self, kv_heads: usize) -> impl Iterator<Item = Range<usize>> {
        let last = kv_heads.saturating_sub(self.last);
        let others = (0..last).step_by(self.others).map(move |first| first..(first + self.others).min(last));
        others.chain(std::iter::once(last..kv_heads))
    }
}

/// The work items, `head of all batch entries · q_tiles + q_tile`, in the order in which to start them. `None` where all
/// lists are equally long: the items' own order is as good.
pub(super) fn work_order(
    tiled: &TiledRuns,
    shape: &Shape,
    element_bytes: usize,
    multiprocessors: usize,
) -> Option<Vec<u32>> {
    let row_costs: Vec<u64> = (0..tiled.rows()).map(|row| tiled.cost(row) + ITEM_COST).collect();
    let longest = *row_costs.iter().max()?;
    if row_costs.iter().all(|&cost| cost == longest) {
        return None;
    }
    let (q_tiles, group, kv_heads) = (tiled.q_tiles, shape.group(), shape.batch * shape.kv_heads);
    let costs_of = |head: usize| {
        let row = head / shape.heads * tiled.batch_rows + head % shape.heads * tiled.head_rows;
        &row_costs[row..row + q_tiles]
    };
    let query_heads = |kv_head: usize| kv_head * group..(kv_head + 1) * group;
    let kv_head_cost = |kv_head| query_heads(kv_head).flat_map(costs_of).sum();
    let sections = Sections::of(&Work {
        head_costs: &(0..kv_heads).map(kv_head_cost).collect::<Vec<u64>>(),
        longest,
        kv_tiles: tiled.kv_tiles,
        kv_head_bytes: shape.kv_len * (shape.head_dim + shape.value_dim) * element_bytes,
        multiprocessors,
    });

    let mut order = Vec::with_capacity(kv_heads * group * q_tiles);
    for section in sections.split(kv_heads) {
        let first = order.len();
        // Heads inside, so that equally long lists of neighbouring heads, which may share keys, run side by side.
        for q_tile in 0..q_tiles {
            for head in section.clone().flat_map(query_heads) {
                order.push((Reverse(costs_of(head)[q_tile]), (head * q_tiles + q_tile) as u32));
            }
        }
        order[first..].sort_by_key(|&(cost, _)| cost);
    }
    Some(order.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MaskMod;
    use crate::library::sliding_window;
    use flex_core::mask::{BlockMask, BlockSize};

    const SMS: usize = 132;
    fn shape(batch: usize, [heads, kv_heads]: [usize; 2], len: usize) -> Shape {
        let kv = [batch, kv_heads, len, 64];
        Shape::new([batch, heads, len, 64], kv, kv).unwrap()
    }

    fn tiled(mask: &MaskMod, shape: &Shape) -> TiledRuns {
        let mask = BlockMask::builder(mask).build(shape.extent()).unwrap();
        TiledRuns::of(&mask, BlockSize { q: 64, kv: 32 }).unwrap()
    }

    #[test]
    fn every_item_is_started_once_and_long_lists_of_a_section_first() {
        let shape = shape(2, [6, 2], 1000);
        let tiled = tiled(&sliding_window::bind(100).unwrap(), &shape);
        // Key heads that outgrow the cache, one at a time. For 64 multiprocessors the end wants the items of three.
        let order = work_order(&tiled, &shape, 128 << 10, 64).unwrap();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..12 * 16));
        let mut rest = order.as_slice();
        for heads in [0..3, 3..12] {
            let (section, after) = rest.split_at(heads.len() * 16);
            rest = after;
            let costs: Vec<u64> = section.iter().map(|item| tiled.cost(*item as usize % 16)).collect();
            assert!(costs.is_sorted_by(|a, b| a >= b), "{costs:?}");
            assert!(section.iter().all(|item| heads.contains(&(*item as usize / 16))), "{heads:?}");
        }
    }

    #[test]
    fn equal_lists_keep_the_kernels_own_order() {
        let shape = shape(1, [2, 2], 128);
        assert_eq!(work_order(&tiled(&MaskMod::all(), &shape), &shape, 2, SMS), None);
        let window = tiled(&sliding_window::bind(8).unwrap(), &shape);
        assert!(work_order(&window, &shape, 2, SMS).is_some());
    }

    #[test]
    fn short_lists_go_by_the_cache_and_long_ones_by_the_end() {
        let sections = |cost, longest| {
            let head_costs = [cost; 32];
            let work = Work {
                head_costs: &head_costs,
                longest,
                kv_tiles: 64,
                kv_head_bytes: 4 << 20,
                multiprocessors: SMS,
            };
            Sections::of(&work)
        };
        // Causal, 64 lists of 1 to 64 tiles a head; then windows of 9 tiles.
        assert_eq!(sections(64 * 136, 262), Sections { last: 16, others: 16 });
        assert_eq!(sections(64 * 42, 42), Sections { last: 5, others: 4 });
        assert_eq!(sections(1, 1 << 40), Sections { last: 16, others: 4 }, "not a head a multiprocessor");
        let large =
            Work { head_costs: &[], longest: 9, kv_tiles: 1, kv_head_bytes: 1 << 40, multiprocessors: 1 };
        assert_eq!(Sections::of(&large), Sections { last: 1, others: 1 });
    }

    #[test]
    fn sections_are_all_heads() {
        let sections = Sections { last: 3, others: 4 };
        assert!(sections.split(12).eq([0..4, 4..8, 8..9, 9..12]));
        assert!(sections.split(2).eq(std::iter::once(0..2)));
    }
}
