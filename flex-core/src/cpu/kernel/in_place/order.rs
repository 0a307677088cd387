//! In which order keys and values are read.
//!
//! As several [streams](STREAMS), or as neighbours, where those that come after them are
//! [asked for](super::ahead::RowsToAsk).

use std::ops::Range;

/// How many places keys or values are read from in turns, a part of the tile apart. Prefetchers follow four streams as fast
/// as memory is; of neighbouring rows in turns they make a half of that, or, on AMD's CPUs, a third.
pub(super) const STREAMS: usize = 4;

/// Lanes whose keys or values are read together: `count` of them, `apart` lanes from one to the next.
#[derive(Clone, Copy)]
pub(super) struct Together {
    pub(super) first: usize,
    pub(super) apart: usize,
    pub(super) count: usize,
}

impl Together {
    /// Lanes side by side.
    #[inline(always)]
    pub(super) fn neighbours(first: usize, count: usize) -> Self {
        Self { first, apart: 1, count }
    }

    #[inline(always)]
    pub(super) fn lane(self, i: usize) -> usize {
        self.first + i * self.apart
    }
}

/// The lanes that are read as [streams](STREAMS), and the few that are left.
#[inline(always)]
pub(super) fn streams_and_rest(
    lanes: &Range<usize>,
) -> (impl Iterator<Item = Together> + use<>, Option<Together>) {
    let apart = lanes.len() / STREAMS;
    let streams = lanes.start..lanes.start + apart;
    let streams = streams.map(move |first| Together { first, apart, count: STREAMS });
    let rest = lanes.start + apart * STREAMS..lanes.end;
    (streams, (!rest.is_empty()).then(|| Together::neighbours(rest.start, rest.len())))
}
