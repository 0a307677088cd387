//! The order in which the blocks of a persistent kernel start its work items: query tiles of heads, each with a list of
//! key tiles.
//!
//! Two things pull against each other. Short lists are bound by the memory, so few heads should be worked on at a time:
//! then the keys and values that neighbouring query tiles share are still in the cache. And no block should be left with a
//! long list at the end. So sections of heads that fit the cache follow each other, the longest lists of each first, and
//! the last section is large enough to share out evenly.

use std::cmp::Reverse;
use std::ops::Range;

use flex_core::attention::Shape;

use super::tiling::TiledRuns;

/// The cache that keys and values may fill, in bytes. Queries, outputs and the next heads need some, too.
const CACHE_BYTES: usize = 32 << 20;

/// The longest lists that the last section is worth to every multiprocessor. Blocks draw their items two ahead, so that
/// fewer would leave some with long lists at the end.
const LONGEST_LISTS_AT_THE_END: u64 = 3;

/// What it takes to begin and end an item, in quarters of a full tile.
const ITEM_COST: u64 = 6;

/// How many key heads are worked on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sections {
    /// In the last section.
    last: usize,
    /// In the others.
    others: usize,
}

impl Sections {
    /// `head_costs` are those of the query heads of each key head together, the last key head first.
    fn new(
        head_costs: impl Iterator<Item = u64>,
        longest: u64,
        kv_head_bytes: usize,
        multiprocessors: usize,
    ) -> Self {
        let cached = CACHE_BYTES / kv_head_bytes.max(1);
        // Not so many that every multiprocessor reads a head of its own from memory.
        let at_most = cached.max(multiprocessors / 8).max(1);
        let wanted = LONGEST_LISTS_AT_THE_END * longest * multiprocessors as u64;
        let behind = head_costs.scan(0, |sum, cost| Some(std::mem::replace(sum, *sum + cost)));
        let even = behind.take_while(|&behind| behind < wanted).take(at_most).count();
        Self { last: even.max(1), others: (cached / 2).max(1) }
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
    let kv_head_bytes = shape.kv_len * (shape.head_dim + shape.value_dim) * element_bytes;
    let sections =
        Sections::new((0..kv_heads).rev().map(kv_head_cost), longest, kv_head_bytes, multiprocessors);

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
    use crate::library::{causal, sliding_window};
    use flex_core::mask::{BlockMask, BlockSize};

    const SMS: usize = 132;
    const HEAD_BYTES: usize = 4 << 20;

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
        let tiled = tiled(&causal::bind().unwrap(), &shape);
        // Key heads that outgrow the cache, one at a time. The end wants more items than there are, and gets those of
        // 16 / 8 key heads.
        let order = work_order(&tiled, &shape, 128 << 10, 16).unwrap();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..12 * 16));
        let mut rest = order.as_slice();
        for heads in [0..3, 3..6, 6..12] {
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
    fn the_last_section_shares_out_evenly() {
        let sections = |cost, longest| Sections::new(std::iter::repeat_n(cost, 32), longest, HEAD_BYTES, SMS);
        // Causal, 64 lists of 1 to 64 tiles a head; then windows of 9 tiles.
        assert_eq!(sections(64 * 136, 262), Sections { last: 12, others: 4 });
        assert_eq!(sections(64 * 42, 42), Sections { last: 7, others: 4 });
        assert_eq!(sections(1, 1 << 40).last, 16, "not a head a multiprocessor");
        assert_eq!(Sections::new(std::iter::empty(), 9, 1 << 40, 1), Sections { last: 1, others: 1 });
    }

    #[test]
    fn sections_are_all_heads() {
        let sections = Sections { last: 3, others: 4 };
        assert!(sections.split(12).eq([0..4, 4..8, 8..9, 9..12]));
        assert!(sections.split(2).eq([0..2]));
    }
}
