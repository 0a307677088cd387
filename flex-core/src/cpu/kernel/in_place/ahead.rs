//! Asking for cache lines before they are read.

use super::super::TILE_KEYS;
use super::super::read::LINE;
use super::Ahead;

/// Asks for a cache line that is read soon, into the second cache. Any address will do.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: every x86-64 CPU has the instruction, and it never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
}

/// The same into the nearest cache.
#[inline(always)]
fn prefetch_nearest(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache lines of the rows that are read [`Ahead::rows`] after `count` lanes from `lane` on.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub(super) fn prefetch_rows(ahead: &Ahead, lane: usize, count: usize) {
    let lane = lane + ahead.rows;
    let of_this = ahead.end.saturating_sub(lane).min(count);
    let of_next = count - of_this;
    if of_this > 0 {
        let row = ahead.this.wrapping_add(lane * ahead.this_stride);
        prefetch_lines(row, ahead.this_stride, ahead.this_row, of_this);
    }
    if of_next > 0 {
        let row = ahead.next.wrapping_add((lane + of_this - ahead.end) * ahead.next_stride);
        prefetch_lines(row, ahead.next_stride, ahead.next_row, of_next);
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
fn prefetch_lines(first: *const u8, stride: usize, row: usize, count: usize) {
    // Rows side by side are one: asking must cost little beside a product of so few rows.
    let (rows, bytes) = if stride == row { (1, count * row) } else { (count, row) };
    for i in 0..rows {
        let row = first.wrapping_add(i * stride);
        for byte in (0..bytes).step_by(LINE) {
            prefetch(row.wrapping_add(byte));
        }
    }
}

/// From how many query rows on neighbouring keys or values are read, and those after them [asked for](Ask), instead of
/// [streams](super::order::STREAMS): where they lie side by side, and where they lie apart, as they do with the heads of a
/// token side by side.
///
/// Prefetchers follow streams, but fall behind where multiplying takes longer than reading, and do not follow rows that lie
/// apart.
#[derive(Clone, Copy)]
pub(super) struct RowsToAsk {
    pub(super) side_by_side: usize,
    pub(super) apart: usize,
}

impl RowsToAsk {
    /// Where it was not measured.
    pub(super) const NEVER: Self = Self { side_by_side: usize::MAX, apart: usize::MAX };
}

impl Ahead {
    /// Whether so many query rows are enough.
    #[inline(always)]
    pub(super) fn is_worth_asking(&self, rows: usize, enough: RowsToAsk) -> bool {
        rows >= if self.this_stride == self.this_row { enough.side_by_side } else { enough.apart }
    }
}

/// Asks for rows in the order in which they are read, into the nearest cache, a few bytes at a time.
pub(super) struct Ask<'a> {
    ahead: &'a Ahead,
    /// The next bytes, and how many of them lie side by side.
    at: *const u8,
    side_by_side: usize,
    /// How many such stretches come after them, each so long, and so far from the one before, of those of this product.
    stretches: usize,
    stretch: usize,
    apart: usize,
}

impl<'a> Ask<'a> {
    /// Begins with what is read [`Ahead::rows`] after `lane`.
    #[inline(always)]
    pub(super) fn new(ahead: &'a Ahead, lane: usize) -> Self {
        let mut ask = Self { ahead, at: ahead.this, side_by_side: 0, stretches: 0, stretch: 0, apart: 0 };
        let lane = lane + ahead.rows;
        if lane < ahead.end {
            let first = ahead.this.wrapping_add(lane * ahead.this_stride);
            ask.rows(first, ahead.this_stride, ahead.this_row, ahead.end - lane);
        } else {
            ask.rows_of_next(lane - ahead.end);
        }
        ask
    }

    fn rows(&mut self, first: *const u8, stride: usize, row: usize, count: usize) {
        // Rows side by side are one stretch.
        let (stretches, stretch) = if stride == row { (1, count * row) } else { (count, row) };
        (self.at, self.side_by_side) = (first, stretch);
        (self.stretches, self.stretch, self.apart) = (stretches - 1, stretch, stride);
    }

    fn rows_of_next(&mut self, from: usize) {
        let Ahead { next, next_stride, next_row, .. } = *self.ahead;
        self.rows(next.wrapping_add(from * next_stride), next_stride, next_row, TILE_KEYS);
    }

    /// Goes on by so many bytes, whose lines are to be [asked for](Asking) in so many parts; asks for all of them at once
    /// where they do not lie side by side or are more than the parts.
    #[inline(always)]
    pub(super) fn bytes_in(&mut self, parts: usize, bytes: usize) -> Lines {
        let (at, apart) = (self.at, bytes.div_ceil(parts));
        if bytes <= self.side_by_side && apart <= LINE {
            self.pass(bytes);
            return Lines { at, apart };
        }
        self.bytes(bytes);
        Lines { at, apart: 0 }
    }

    #[inline(never)]
    fn bytes(&mut self, mut count: usize) {
        while count > 0 {
            if self.side_by_side == 0 {
                match self.stretches.checked_sub(1) {
                    None => self.rows_of_next(0),
                    Some(left) => {
                        self.at = self.at.wrapping_add(self.apart).wrapping_sub(self.stretch);
                        (self.stretches, self.side_by_side) = (left, self.stretch);
                    }
                }
            }
            let part = count.min(self.side_by_side);
            for byte in (0..part).step_by(LINE) {
                prefetch_nearest(self.at.wrapping_add(byte));
            }
            self.pass(part);
            count -= part;
        }
    }

    #[inline(always)]
    fn pass(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
        self.side_by_side -= bytes;
    }
}

/// What is asked for beside a product, a few lines at each of its steps: the buffers in which a CPU waits for lines are few,
/// and stay full only if a line is asked for whenever one has come, instead of many at once and then none.
pub(super) trait Asking {
    fn ask(&mut self, lines: usize);
}

/// Nothing.
impl Asking for () {
    #[inline(always)]
    fn ask(&mut self, _: usize) {}
}

/// Lines side by side.
pub(super) struct Lines {
    at: *const u8,
    /// At most a line, so that none is left out.
    apart: usize,
}

impl Asking for Lines {
    #[inline(always)]
    fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            prefetch_nearest(self.at);
            self.at = self.at.wrapping_add(self.apart);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two products, of 20 rows that lie `stride` apart and of rows that lie twice as far apart.
    fn ahead(memory: *const u8, stride: usize) -> Ahead {
        let next = memory.wrapping_add(1 << 20);
        Ahead {
            rows: 7,
            this: memory,
            this_stride: stride,
            this_row: 96,
            end: 20,
            next,
            next_stride: 2 * stride,
            next_row: 96,
        }
    }

    #[test]
    fn rows_are_asked_for_in_order_whatever_the_steps() {
        let memory = [0u8; 1];
        let memory = memory.as_ptr();
        for stride in [96, 100, 160] {
            let ahead = ahead(memory, stride);
            for step in [1, 32, 96, 200, 384] {
                for (first, parts) in [(0, 1), (5, 2), (13, 3), (19, 16)] {
                    let mut ask = Ask::new(&ahead, first);
                    for asked in (0..40 * 96).step_by(step) {
                        // What is behind the last byte of a row may be its end or the beginning of the next one.
                        let (row, byte) = match (asked / 96, asked % 96) {
                            (row, 0) if asked > 0 => (row - 1, 96),
                            place => place,
                        };
                        let expected = match (first + 7 + row).checked_sub(20) {
                            None => ahead.this.wrapping_add((first + 7 + row) * stride + byte),
                            Some(row) => ahead.next.wrapping_add(row * 2 * stride + byte),
                        };
                        assert_eq!(ask.at, expected, "{asked} bytes after lane {first}, {stride} apart");
                        let lines = ask.bytes_in(parts, step);
                        assert!(lines.apart <= LINE, "no line is left out");
                        assert!(lines.apart == 0 || lines.apart * parts >= step, "up to the last one");
                    }
                }
            }
        }
    }
}
