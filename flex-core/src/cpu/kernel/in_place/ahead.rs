//! Asking for cache lines before they are read.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::Ahead;

/// Asks for a cache line that is read soon. Any address will do.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    // SAFETY: every x86-64 CPU has the instruction, and it never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
}

/// Asks for the cache lines of the rows that are read [`Ahead::rows`] after `count` lanes from `lane` on.
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

#[inline(always)]
fn prefetch_lines(first: *const u8, stride: usize, row: usize, count: usize) {
    // Rows side by side are one: asking must cost little beside a product of so few rows.
    let (rows, bytes) = if stride == row { (1, count * row) } else { (count, row) };
    for i in 0..rows {
        let row = first.wrapping_add(i * stride);
        for byte in (0..bytes).step_by(64) {
            prefetch(row.wrapping_add(byte));
        }
    }
}
