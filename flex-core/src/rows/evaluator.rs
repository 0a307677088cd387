//! Evaluates programs: the registers they run on, tile by tile.

use std::ops::Range;

use super::bounds::{self, ColumnRun};
use super::compile::{Code, KEY, QUERY, SCORE};
use super::instr::{Instr, Operand};
use super::lanes::{self, GROUP, Machine, ROWS, RowValues, Scores};
use super::program::RowProgram;
use super::scalar;
use crate::analysis::interpret::{Interpreter, Point};
use crate::ir::Type;
use crate::isa::{Available, InstructionSet, compiled_for_each_set};
use crate::mods::ModFault;

/// More runs of a column than this are not worth looking for intervals in.
const MAX_RUNS: usize = 32;

/// Which values a mask has in some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSummary {
    /// Whether some key is kept.
    pub keeps_some: bool,
    /// Whether some key is skipped.
    pub skips_some: bool,
    /// How many queries were evaluated to know it.
    pub queries: usize,
}

impl RowSummary {
    /// Adds the bools of a row, or the one for all its keys.
    fn add(&mut self, row: Result<&[u32], u32>) {
        let (any, all) = match row {
            Ok(kept) => kept.iter().fold((0, 1), |(any, all), &keep| (any | keep, all & keep)),
            Err(keep) => (keep, keep),
        };
        self.keeps_some |= any != 0;
        self.skips_some |= all == 0;
    }
}

/// The memory of a [`RowEvaluator`], to be used again by the next one.
#[derive(Clone, Debug, Default)]
pub struct RowRegisters {
    scalars: Vec<u32>,
    rows: Vec<u32>,
    lanes: Vec<u32>,
    runs: Vec<ColumnRun>,
}

/// Rows of scores, `stride` apart, and where their new values go; lane i of a tile is at i in a row.
#[derive(Debug)]
pub struct ScoreRows<'a> {
    /// The plain scores.
    pub inputs: &'a mut [f32],
    /// The memory of the new ones. What is next to the lanes asked for is overwritten, up to multiples of 16.
    pub outputs: &'a mut [f32],
    /// The distance of two rows in both.
    pub stride: usize,
}

/// Evaluates one program tile by tile.
#[derive(Debug)]
pub struct RowEvaluator<'p> {
    program: &'p RowProgram,
    isa: Available,
    registers: RowRegisters,
    stride: usize,
    /// The queries that the row registers hold, and the length of one.
    queries: Range<usize>,
    row_stride: usize,
    tile: Tile,
    /// Whether head and column registers hold the values of `tile`.
    tile_is_ready: bool,
    columns_are_ready: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tile {
    b: i32,
    h: i32,
    kv_start: i32,
    len: usize,
}

impl<'p> RowEvaluator<'p> {
    /// An evaluator for tiles of at most `capacity` keys, with the instruction set in use.
    pub fn new(program: &'p RowProgram, capacity: usize) -> Self {
        Self::with(program, capacity, InstructionSet::current(), RowRegisters::default())
    }

    /// The same with a given instruction set, in memory that is already there.
    pub fn with(
        program: &'p RowProgram,
        capacity: usize,
        isa: InstructionSet,
        mut registers: RowRegisters,
    ) -> Self {
        let stride = capacity.next_multiple_of(GROUP);
        registers.scalars.clear();
        registers.scalars.resize(program.code.scalars, 0);
        // Whatever is there is overwritten before it is read.
        registers.lanes.resize(program.code.lanes * ROWS * stride, 0);
        Self {
            program,
            isa: Available::new(isa),
            registers,
            stride,
            queries: 0..0,
            row_stride: 0,
            tile: Tile::default(),
            tile_is_ready: false,
            columns_are_ready: false,
        }
    }

    /// Gives the memory back.
    pub fn into_registers(self) -> RowRegisters {
        self.registers
    }

    /// Goes to the keys `kv_start..kv_start + len` of a batch and head; `len` is cut to the capacity. Costs nothing if
    /// it is there already.
    pub fn tile(&mut self, b: usize, h: usize, kv_start: usize, len: usize) {
        let tile = Tile { b: b as i32, h: h as i32, kv_start: kv_start as i32, len: len.min(self.stride) };
        if self.tile_is_ready && self.tile == tile {
            return;
        }
        if !(self.tile_is_ready && (self.tile.b, self.tile.h) == (tile.b, tile.h)) {
            let scalars = &mut self.registers.scalars;
            scalar::set_inputs(scalars, tile.b, tile.h);
            scalar::run(&self.program.code.head, scalars, self.program.bound.captures());
            self.queries = 0..0;
        }
        self.tile = tile;
        self.tile_is_ready = true;
        self.columns_are_ready = false;
    }

    fn prepare_columns(&mut self) {
        if self.columns_are_ready {
            return;
        }
        let width = self.tile.len.next_multiple_of(GROUP);
        let keys = &mut self.registers.lanes[KEY as usize * ROWS * self.stride..][..width];
        for (i, key) in keys.iter_mut().enumerate() {
            *key = self.tile.kv_start.wrapping_add(i as i32) as u32;
        }
        self.run_lanes(|code| &code.column, 0, 1, 0..width, None);
        self.columns_are_ready = true;
    }

    fn run_lanes(
        &mut self,
        list: impl Fn(&'p Code) -> &'p Vec<Instr>,
        first_row: usize,
        rows: usize,
        range: Range<usize>,
        scores: Option<Scores>,
    ) {
        let stride = self.row_stride;
        let mut machine = Machine {
            registers: &mut self.registers.lanes,
            stride: self.stride,
            rows_each: ROWS,
            scalars: &self.registers.scalars,
            row_values: RowValues::Each { values: &self.registers.rows, stride, first: first_row },
            captures: self.program.bound.captures(),
            exact: self.program.bound.expr().result_type() == Type::Bool,
            scores,
        };
        lanes::run(self.isa, list(&self.program.code), &mut machine, rows, range);
    }

    /// Evaluates what depends on b, h and q alone for some queries at once. Others are evaluated as they are asked for,
    /// a few at a time. Comes after [`tile`](Self::tile) with the same batch and head; costs nothing a second time.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn prepare_rows(&mut self, queries: Range<usize>) {
        assert!(self.tile_is_ready, "`tile` comes before the rows of the tile");
        if self.queries.start <= queries.start && queries.end <= self.queries.end {
            return;
        }
        let width = queries.len().next_multiple_of(GROUP);
        self.queries = queries.start..queries.start + width;
        self.row_stride = width;
        let values = &mut self.registers.rows;
        values.resize((self.program.code.rows * width).max(values.len()), 0);
        for (i, q) in values[QUERY as usize * width..][..width].iter_mut().enumerate() {
            *q = (queries.start as i32).wrapping_add(i as i32) as u32;
        }
        let mut machine = Machine {
            registers: values,
            stride: width,
            rows_each: 1,
            scalars: &self.registers.scalars,
            row_values: RowValues::Lanes,
            captures: self.program.bound.captures(),
            exact: true,
            scores: None,
        };
        lanes::run(self.isa, &self.program.code.row, &mut machine, 1, 0..width);
    }

    /// Evaluates at most [`ROWS`] rows from query `first` on.
    fn run_rows(&mut self, first: usize, rows: usize, lanes: &Range<usize>, scores: Option<Scores>) {
        self.prepare_columns();
        self.prepare_rows(first..first + rows);
        self.run_lanes(|code| &code.element, first - self.queries.start, rows, around(lanes), scores);
    }

    /// The value of an operand that is the same for a whole row.
    fn row_value(&self, operand: Operand, q: usize) -> u32 {
        match operand {
            Operand::Const(bits) => bits,
            Operand::Scalar(r) => self.registers.scalars[r as usize],
            Operand::Row(r) => self.registers.rows[r as usize * self.row_stride + q - self.queries.start],
            Operand::Column(_) | Operand::Element(_) => 0,
        }
    }

    /// The values of a lane register, or the one value that an operand has for the whole row.
    fn values(&self, operand: Operand, q: usize, row: usize, lanes: &Range<usize>) -> Result<&[u32], u32> {
        let register = |index: usize| &self.registers.lanes[index * self.stride..][lanes.clone()];
        match operand {
            Operand::Column(r) => Ok(register(r as usize * ROWS)),
            Operand::Element(r) => Ok(register(r as usize * ROWS + row)),
            other => Err(self.row_value(other, q)),
        }
    }

    fn results(&self, q: usize, row: usize, lanes: &Range<usize>) -> Result<&[u32], u32> {
        self.values(self.program.code.result.unwrap_or(Operand::Const(0)), q, row, lanes)
    }

    /// The keys of the tile that the mask keeps for query `q`, as a range of its lanes, where the mask compares kv with
    /// values of the row and does nothing else (causal, sliding window, padding by length, …). `None` for other masks.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn mask_limits(&mut self, q: usize) -> Option<Range<usize>> {
        let limits = (*self.program.limits).as_ref().filter(|limits| limits.tests.is_empty())?;
        self.prepare_rows(q..q + 1);
        let Tile { kv_start, len, .. } = self.tile;
        limits.keys(|operand| self.row_value(operand, q), kv_start.into(), len)
    }

    fn has_limits(&self) -> bool {
        (*self.program.limits).as_ref().is_some_and(|limits| limits.tests.is_empty())
    }

    /// Writes to `kept` the keys that the mask keeps for each of the queries, where they are an interval for all of them
    /// and that is known without asking key by key: comparisons of kv (as for
    /// [`mask_limits`](Self::mask_limits)), and of values that stay the same over many keys, as of a document's number.
    /// Says whether that is so. `keys` are those that any of the queries may keep. Goes to some tile.
    pub fn mask_intervals(
        &mut self,
        [b, h]: [usize; 2],
        queries: Range<usize>,
        keys: Range<usize>,
        kept: &mut [Range<u32>],
    ) -> bool {
        let program = self.program;
        let Some(limits) = &*program.limits else { return false };
        self.tile(b, h, keys.start, 0);
        self.prepare_rows(queries.clone());
        for (kept, q) in kept.iter_mut().zip(queries.clone()) {
            let row_value = |operand| self.row_value(operand, q);
            let Some(lanes) = limits.keys(row_value, keys.start as i64, keys.len()) else { return false };
            *kept = (keys.start + lanes.start) as u32..(keys.start + lanes.end) as u32;
        }
        let mut runs = std::mem::take(&mut self.registers.runs);
        let all_are_intervals = limits.tests.iter().all(|test| {
            runs.clear();
            for start in keys.clone().step_by(self.stride) {
                self.tile(b, h, start, self.stride.min(keys.end - start));
                self.prepare_columns();
                let column = &self.registers.lanes[test.column as usize * ROWS * self.stride..];
                bounds::add_runs(&mut runs, start, &column[..self.tile.len]);
                if runs.len() > MAX_RUNS {
                    return false;
                }
            }
            let mut last = None;
            for (kept, q) in kept.iter_mut().zip(queries.clone()) {
                let value = self.row_value(test.row, q);
                let passing = match last.take() {
                    Some((of, passing)) if of == value => Some(passing),
                    _ => test.keys(&runs, value),
                };
                let Some(passing) = passing else { return false };
                let start = kept.start.max(passing.start as u32);
                *kept = start..kept.end.min(passing.end as u32).max(start);
                last = Some((value, passing));
            }
            true
        });
        self.registers.runs = runs;
        all_are_intervals
    }

    /// Writes to `keep` whether the mask keeps query `q` and the keys of the given lanes of the tile.
    ///
    /// # Errors
    /// The fault of the first key (in the given lanes) that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen, the lanes are not in it, or `keep` has another length.
    pub fn mask_row(&mut self, q: usize, lanes: Range<usize>, keep: &mut [bool]) -> Result<(), ModFault> {
        assert!(lanes.end <= self.tile.len && keep.len() == lanes.len(), "the lanes are those of the tile");
        if let Some(kept) = self.mask_limits(q) {
            for (keep, lane) in keep.iter_mut().zip(lanes) {
                *keep = kept.contains(&lane);
            }
            return Ok(());
        }
        self.run_rows(q, 1, &lanes, None);
        self.check_faults(q, 0, &lanes, None, |_| true)?;
        match self.results(q, 0, &lanes) {
            Ok(values) => {
                for (keep, &bits) in keep.iter_mut().zip(values) {
                    *keep = bits != 0;
                }
            }
            Err(value) => keep.fill(value != 0),
        }
        Ok(())
    }

    /// Writes to the rows of `keep`, which begin `row_stride` apart, 1 where the mask keeps a query and a key of the
    /// given lanes of the tile, else 0.
    ///
    /// # Errors
    /// The fault of the first key (in the given lanes) of the first query that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen, the lanes are not in it, or `keep` is too short.
    pub fn mask_rows(
        &mut self,
        queries: Range<usize>,
        lanes: Range<usize>,
        keep: &mut [u32],
        row_stride: usize,
    ) -> Result<(), ModFault> {
        assert!(lanes.end <= self.tile.len, "the lanes are those of the tile");
        for first in queries.clone().step_by(ROWS) {
            let rows = ROWS.min(queries.end - first);
            self.run_rows(first, rows, &lanes, None);
            for row in 0..rows {
                self.check_faults(first + row, row, &lanes, None, |_| true)?;
                let keep = &mut keep[(first - queries.start + row) * row_stride..][..lanes.len()];
                match self.results(first + row, row, &lanes) {
                    Ok(values) => keep.copy_from_slice(values),
                    Err(value) => keep.fill(value),
                }
            }
        }
        Ok(())
    }

    /// Whether the mask keeps some key of the tile for some of the queries, and whether it skips some. Stops early when
    /// both are so and the mask cannot fault.
    ///
    /// # Errors
    /// The fault of the first key (of the first query) that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn mask_summary(&mut self, queries: Range<usize>) -> Result<RowSummary, ModFault> {
        let lanes = 0..self.tile.len;
        let mut summary = RowSummary { keeps_some: false, skips_some: false, queries: 0 };
        let mut first = queries.start;
        while first < queries.end {
            // The first row alone: most tiles that are looked at are mixed, and show it at once.
            let rows = if first == queries.start { 1 } else { ROWS.min(queries.end - first) };
            if self.has_limits() || rows == 1 {
                self.summarise_row(first, &lanes, &mut summary)?;
                first += 1;
            } else {
                self.run_rows(first, rows, &lanes, None);
                for row in 0..rows {
                    self.check_faults(first + row, row, &lanes, None, |_| true)?;
                    summary.add(self.results(first + row, row, &lanes));
                }
                first += rows;
            }
            if summary.keeps_some && summary.skips_some && self.program.code.fault.is_none() {
                break;
            }
        }
        summary.queries = first - queries.start;
        Ok(summary)
    }

    fn summarise_row(
        &mut self,
        q: usize,
        lanes: &Range<usize>,
        summary: &mut RowSummary,
    ) -> Result<(), ModFault> {
        if let Some(kept) = self.mask_limits(q) {
            summary.keeps_some |= !kept.is_empty();
            summary.skips_some |= kept.len() < lanes.len();
            return Ok(());
        }
        self.run_rows(q, 1, lanes, None);
        self.check_faults(q, 0, lanes, None, |_| true)?;
        summary.add(self.results(q, 0, lanes));
        Ok(())
    }

    /// The new scores `mod(factor · score)` of some queries and the keys of the given lanes of the tile. Only faults of
    /// kept elements count: `keep` gets the row and the lane, counted from the first ones given. The inputs may be
    /// changed.
    ///
    /// # Errors
    /// The fault of the first kept key (in the given lanes) of the first query that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen, the lanes are not in it, the stride is not a multiple of 16, or inputs or
    /// outputs are too short.
    pub fn score_rows(
        &mut self,
        queries: Range<usize>,
        lanes: Range<usize>,
        factor: f32,
        scores: ScoreRows,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Result<(), ModFault> {
        let ScoreRows { inputs, outputs, stride } = scores;
        assert!(lanes.end <= self.tile.len, "the lanes are those of the tile");
        assert!(stride.is_multiple_of(GROUP), "rows are whole groups of lanes");
        let around = around(&lanes);
        if factor != 1.0 {
            for row in 0..queries.len() {
                scale(self.isa, &mut inputs[row * stride..][around.clone()], factor);
            }
        }
        let Code { last, result, fault, .. } = *self.program.code;
        for first in queries.clone().step_by(ROWS) {
            let rows = ROWS.min(queries.end - first);
            let start = first - queries.start;
            let (inputs, outputs) = (&inputs[start * stride..], &mut outputs[start * stride..]);
            self.run_rows(first, rows, &lanes, Some(Scores { inputs, outputs, stride, last }));
            for row in 0..rows {
                let (q, inputs) = (first + row, &inputs[row * stride..][lanes.clone()]);
                if fault.is_some() {
                    self.check_faults(q, row, &lanes, Some(inputs), |lane| keep(start + row, lane))?;
                }
                if last.is_some() {
                    continue;
                }
                let outputs = &mut outputs[row * stride..][lanes.clone()];
                match result {
                    Some(Operand::Element(SCORE)) => outputs.copy_from_slice(inputs),
                    _ => match self.results(q, row, &lanes) {
                        Ok(values) => outputs.copy_from_slice(bytemuck::must_cast_slice(values)),
                        Err(value) => outputs.fill(f32::from_bits(value)),
                    },
                }
            }
        }
        Ok(())
    }

    /// Returns the fault of the first kept element of a row that has one. Of a mask there are no scores.
    fn check_faults(
        &self,
        q: usize,
        row: usize,
        lanes: &Range<usize>,
        scores: Option<&[f32]>,
        keep: impl Fn(usize) -> bool,
    ) -> Result<(), ModFault> {
        let Some(fault) = self.program.code.fault else { return Ok(()) };
        let faults = self.values(fault, q, row, lanes);
        let any = match faults {
            Ok(faults) => faults.iter().fold(0, |any, fault| any | fault) != 0,
            Err(fault) => fault != 0,
        };
        if !any {
            return Ok(());
        }
        let mut interpreter = Interpreter::<f32>::new(&self.program.bound);
        for (i, lane) in lanes.clone().enumerate() {
            if keep(i) && faults.map_or_else(|fault| fault, |faults| faults[i]) != 0 {
                let Tile { b, h, kv_start, .. } = self.tile;
                let at = Point { b, h, q: q as i32, kv: kv_start.wrapping_add(lane as i32) };
                if let Err(fault) = interpreter.evaluate(at, scores.map_or(0.0, |scores| scores[i])) {
                    return Err(ModFault::new(&self.program.bound, at, fault));
                }
            }
        }
        Ok(())
    }
}

compiled_for_each_set! {
    /// Multiplies all scores by `factor`.
    fn scale(scores: &mut [f32], factor: f32) = multiply;
}

#[inline(always)]
fn multiply(scores: &mut [f32], factor: f32) {
    for score in scores {
        *score *= factor;
    }
}

/// The smallest range of whole groups around some lanes.
fn around(lanes: &Range<usize>) -> Range<usize> {
    lanes.start / GROUP * GROUP..lanes.end.next_multiple_of(GROUP)
}
