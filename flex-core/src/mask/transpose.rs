//! The tiles by columns: for every block of keys the runs of query blocks that see it.

use super::{BlockMask, Run, RunTable, TileKind};

impl BlockMask {
    /// The tiles by columns: row `b * batch_rows + h * head_rows + kv_block` lists the runs of query blocks, where the
    /// strides are [`transposed_row_strides`](Self::transposed_row_strides). For the backward pass. Built when first
    /// asked for.
    pub fn transposed(&self) -> &RunTable {
        self.transposed.get_or_init(|| transpose(&self.rows, self.q_blocks(), self.kv_blocks()))
    }

    /// The strides in rows of [`transposed`](Self::transposed) of batch and head; 0 for a dimension stored once.
    pub fn transposed_row_strides(&self) -> (usize, usize) {
        let columns = |rows: usize| rows / self.q_blocks() * self.kv_blocks();
        (columns(self.batch_rows), columns(self.head_rows))
    }
}

/// Transposes every group of `height` rows, each over `width` tiles.
///
/// Sweeps down the rows and looks only at where a row differs from the one above: each difference starts or ends runs of
/// the columns in it, so the work is proportional to the runs of both tables.
pub(super) fn transpose(table: &RunTable, height: usize, width: usize) -> RunTable {
    let groups = table.rows() / height;
    let mut offsets = vec![0u32; groups * width + 1];
    for group in 0..groups {
        let starts = &mut offsets[group * width + 1..(group + 1) * width + 1];
        sweep(table, group * height, height, |_, columns, _, new| {
            if new.is_some() {
                starts[columns].iter_mut().for_each(|count| *count += 1);
            }
        });
    }
    let mut end = 0;
    for offset in &mut offsets {
        end += *offset;
        *offset = end;
    }
    let mut runs = vec![Run::new(0, 0, TileKind::Partial); end as usize];
    for group in 0..groups {
        let mut next = offsets[group * width..(group + 1) * width].to_vec();
        sweep(table, group * height, height, |row, columns, old, new| {
            for slot in &mut next[columns] {
                if let Some(kind) = old {
                    let run = &mut runs[*slot as usize - 1];
                    *run = Run::new(run.first(), row - run.first(), kind);
                }
                if let Some(kind) = new {
                    runs[*slot as usize] = Run::new(row, 0, kind);
                    *slot += 1;
                }
            }
        });
    }
    RunTable { offsets, runs }
}

/// Calls `change(row, columns, old, new)` for every stretch of columns whose kind in `row` differs from that in the row
/// above. A row of nothing comes before the first and after the last.
fn sweep(
    table: &RunTable,
    first_row: usize,
    height: usize,
    mut change: impl FnMut(u32, std::ops::Range<usize>, Option<TileKind>, Option<TileKind>),
) {
    let mut above: &[Run] = &[];
    for row in 0..=height {
        let here = if row < height { table.row(first_row + row) } else { &[] };
        let (mut i, mut j, mut at) = (0, 0, 0);
        loop {
            let (old, old_end) = part_at(above, &mut i, at);
            let (new, new_end) = part_at(here, &mut j, at);
            let end = old_end.min(new_end);
            if old != new {
                change(row as u32, at as usize..end as usize, old, new);
            }
            if end == u32::MAX {
                break;
            }
            at = end;
        }
        above = here;
    }
}

/// The kind of a row's tiles at column `at`, and where it ends; `next` is the first run that does not end before it.
fn part_at(row: &[Run], next: &mut usize, at: u32) -> (Option<TileKind>, u32) {
    while row.get(*next).is_some_and(|run| run.end() <= at) {
        *next += 1;
    }
    match row.get(*next) {
        None => (None, u32::MAX),
        Some(run) if at < run.first() => (None, run.first()),
        Some(run) => (Some(run.kind()), run.end()),
    }
}
