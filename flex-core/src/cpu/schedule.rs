//! Which items there are, and the threads that run them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::item::Item;
use super::kernel::{Kernels, TILE_KEYS};
use super::pass::BLOCK_ROWS;
use super::split;
use super::tiles::Tiles;
use crate::attention::Shape;

/// The most rows of an item: packing a tile of keys is shared by them.
const ITEM_ROWS: usize = 256;
/// The same where products are so fast that packing weighs more.
const ITEM_ROWS_OF_TILES: usize = 512;
/// Items are made smaller, down to one block, until there are this many.
const ENOUGH_ITEMS: usize = 16;
/// For tile registers two items become one where there are so many at least, …
const MANY_ITEMS: usize = 64;
/// … where it meets so many times as many keys as it has queries (fewer may be packed at one go, block after block), …
const FAR_KEYS: usize = 2;
/// … and where the packed queries and the results of its rows take no more bytes: they share the second-level cache with keys.
const MOST_BYTES_OF_ROWS: usize = 3 << 19;
/// Where one block holds all queries of a key/value head (decoding), its keys are split into parts of this length.
const SPLIT_KEYS: usize = 2048;

/// The number of parts that the keys of every row are split into.
pub(super) fn splits(shape: &Shape) -> usize {
    if shape.group() * shape.q_len <= BLOCK_ROWS { shape.kv_len.div_ceil(split_keys(shape)) } else { 1 }
}

/// The keys of a part: more where there would be too many parts.
fn split_keys(shape: &Shape) -> usize {
    SPLIT_KEYS.max(shape.kv_len.div_ceil(split::most_parts(shape))).next_multiple_of(TILE_KEYS)
}

fn item_rows(kernels: &Kernels) -> usize {
    if kernels.packing.is_tiles() { ITEM_ROWS_OF_TILES } else { ITEM_ROWS }
}

/// What a row of an item takes beside keys and values.
fn bytes_of_row(shape: &Shape, kernels: &Kernels) -> usize {
    4 * (kernels.packing.units(shape.head_dim) + shape.value_dim.next_multiple_of(kernels.panel))
}

/// Puts the items of some key/value heads, numbered `batch · kv_heads + kv_head`, into an empty list, the most expensive
/// first. They depend on the problem only, not on the threads.
pub(super) fn items(
    shape: &Shape,
    kv_heads: Range<usize>,
    tiles: &Tiles,
    kernels: &Kernels,
    items: &mut Vec<Item>,
) {
    let group = shape.group();
    let mut rows = item_rows(kernels);
    let parts = |rows: usize| {
        let heads = group.min((rows / BLOCK_ROWS).max(1)).min(rows.div_ceil(shape.q_len).max(1));
        let queries = (rows / heads).max(BLOCK_ROWS) / BLOCK_ROWS * BLOCK_ROWS;
        (heads, queries)
    };
    let count = |(heads, queries): (usize, usize)| {
        shape.batch * shape.kv_heads * group.div_ceil(heads) * shape.q_len.div_ceil(queries)
    };
    while rows > BLOCK_ROWS && count(parts(rows)) < ENOUGH_ITEMS {
        rows /= 2;
    }
    let splits = splits(shape);
    let (heads_each, queries_each) = if splits == 1 { parts(rows) } else { (group, shape.q_len) };
    // The queries of two items that become one; if none do, of one.
    let joined = if kernels.packing.is_tiles()
        && count((heads_each, 2 * queries_each)) >= MANY_ITEMS
        && 2 * heads_each * queries_each * bytes_of_row(shape, kernels) <= MOST_BYTES_OF_ROWS
    {
        2 * queries_each
    } else {
        queries_each
    };
    items.reserve(
        count((heads_each, queries_each)) / (shape.batch * shape.kv_heads) * kv_heads.len() * splits,
    );
    for kv_head in kv_heads {
        let (batch, kv_head) = (kv_head / shape.kv_heads, kv_head % shape.kv_heads);
        for heads in chunks(0..group, heads_each) {
            let heads = kv_head * group + heads.start..kv_head * group + heads.end;
            let each_of = |queries: &Range<usize>| {
                let keys = tiles.hull(batch, heads.start, queries);
                if keys.len() < FAR_KEYS * queries.len() { queries_each } else { joined }
            };
            for queries in chunks(0..shape.q_len, joined).flat_map(|two| chunks(two.clone(), each_of(&two))) {
                let cost = heads.clone().map(|h| tiles.cost(batch, h, &queries)).sum();
                let heads = heads.clone();
                if splits == 1 {
                    let keys = 0..shape.kv_len;
                    items.push(Item { batch, kv_head, heads, queries, keys, cost, partial: None });
                    continue;
                }
                for keys in chunks(0..shape.kv_len, split_keys(shape)) {
                    let partial = Some(items.len() * heads.len() * queries.len());
                    let (heads, queries) = (heads.clone(), queries.clone());
                    items.push(Item { batch, kv_head, heads, queries, keys, cost, partial });
                }
            }
        }
    }
    // A stable sort would need memory; the places of an item make all keys different.
    items.sort_unstable_by_key(|item| {
        let Item { batch, heads, queries, keys, cost, .. } = item;
        // Heads share what is known of the queries' keys under a mask, and otherwise queries the keys of a head.
        let first = if tiles.mask.is_some() { queries.start } else { heads.start };
        (std::cmp::Reverse(*cost), *batch, first, heads.start, queries.start, keys.start)
    });
}

/// Whether head dims fill tile registers to four fifths.
pub(super) fn fills_tiles(shape: &Shape) -> bool {
    let dims = [shape.head_dim, shape.value_dim];
    let padded: usize = dims.iter().map(|dim| dim.next_multiple_of(32)).sum();
    4 * padded <= 5 * dims.iter().sum::<usize>()
}

/// An item in parts as large as other kernels want them.
pub(super) fn parts<'i>(item: &'i Item, kernels: &Kernels) -> impl Iterator<Item = Item> + use<'i> {
    let each = (item_rows(kernels) / item.heads.len()).max(BLOCK_ROWS) / BLOCK_ROWS * BLOCK_ROWS;
    chunks(item.queries.clone(), each).map(|queries| Item { queries, ..item.clone() })
}

fn chunks(all: Range<usize>, each: usize) -> impl Iterator<Item = Range<usize>> {
    all.clone().step_by(each).map(move |start| start..all.end.min(start + each))
}

/// Runs `work` for 0..count, each once, smaller numbers first; on the current rayon pool or on a pool of `threads`.
pub(super) fn run(threads: Option<usize>, count: usize, work: impl Fn(usize) + Sync) {
    match threads {
        Some(1) => (0..count).for_each(work),
        Some(threads) => match pool(threads) {
            Some(pool) => pool.install(|| share(count, &work)),
            None => share(count, &work),
        },
        None => share(count, &work),
    }
}

fn share(count: usize, work: &(impl Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads().min(count);
    if threads <= 1 {
        return (0..count).for_each(work);
    }
    let next = AtomicUsize::new(0);
    let take = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            work(i);
        }
    };
    on_each(threads, &take);
}

/// Runs `work` so many times, on different threads where they are free. (Joining allocates nothing; spawning would.)
fn on_each(threads: usize, work: &(impl Fn() + Sync)) {
    match threads {
        0 => (),
        1 => work(),
        _ => {
            rayon::join(|| on_each(threads / 2, work), || on_each(threads - threads / 2, work));
        }
    }
}

/// The pool kept for a number of threads; `None` if the threads cannot be had.
fn pool(threads: usize) -> Option<Arc<rayon::ThreadPool>> {
    static POOLS: OnceLock<Mutex<HashMap<usize, Arc<rayon::ThreadPool>>>> = OnceLock::new();
    let mut pools = POOLS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get(&threads) {
        return Some(pool.clone());
    }
    let named = |i| format!("flex-cpu-{i}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(named).build();
    let pool = Arc::new(pool.map_err(|error| tracing::warn!(%error, threads, "no thread pool")).ok()?);
    pools.insert(threads, pool.clone());
    Some(pool)
}
