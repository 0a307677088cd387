//! Programs and the registers they run on.

use std::ops::Range;

use super::bounds::{self, Limits};
use super::compile::{self, Code, KEY, SCORE};
use super::instr::Operand;
use super::lanes::{self, GROUP, Machine, ROWS, Scores};
use super::scalar;
use crate::analysis::interpret::{Interpreter, Point};
use crate::ir::Type;
use crate::isa::{Available, InstructionSet};
use crate::mods::{BoundExpr, ModFault};

/// A bound expression ready to be evaluated by rows. Made once, shared by threads.
#[derive(Clone, Debug)]
pub struct RowProgram {
    bound: BoundExpr,
    code: Code,
    /// Comparisons of kv with a value of the row that say all of a mask.
    limits: Option<Limits>,
}

impl RowProgram {
    /// Lowers the expression of a mask or score mod.
    pub fn new(bound: &BoundExpr) -> Self {
        Self::lower(bound, true)
    }

    /// Lowers an expression that is proved not to fault at any point it will be evaluated at, and so needs no checks.
    /// At other points the values mean nothing, but are safe to compute.
    pub fn proved(bound: &BoundExpr) -> Self {
        Self::lower(bound, false)
    }

    fn lower(bound: &BoundExpr, tell_faults: bool) -> Self {
        let mut code = compile::compile(bound, tell_faults);
        let limits = bounds::limits(bound.expr(), &code);
        code.drop_unused(limits.iter().flat_map(Limits::operands));
        code.fuse();
        Self { bound: bound.clone(), code, limits }
    }

    /// The expression.
    pub fn bound(&self) -> &BoundExpr {
        &self.bound
    }

    /// Whether some point could fault.
    pub fn may_fault(&self) -> bool {
        self.code.fault.is_some()
    }
}

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
    lanes: Vec<u32>,
}

/// Evaluates one program tile by tile.
#[derive(Debug)]
pub struct RowEvaluator<'p> {
    program: &'p RowProgram,
    isa: Available,
    registers: RowRegisters,
    stride: usize,
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
        registers.scalars.resize(program.code.scalars * ROWS, 0);
        // Whatever is there is overwritten before it is read.
        registers.lanes.resize(program.code.lanes * ROWS * stride, 0);
        Self {
            program,
            isa: Available::new(isa),
            registers,
            stride,
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
            let (scalars, stride) = (&mut self.registers.scalars, self.program.code.scalars);
            scalar::set_inputs(scalars, tile.b, tile.h, 0);
            scalar::run(&self.program.code.head, &mut scalars[..stride], self.program.bound.captures());
            for row in 1..ROWS {
                scalars.copy_within(..stride, row * stride);
            }
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
        self.run_lanes(|code| &code.column, 1, 0..width, None);
        self.columns_are_ready = true;
    }

    fn run_lanes(
        &mut self,
        list: impl Fn(&'p Code) -> &'p Vec<super::instr::Instr>,
        rows: usize,
        range: Range<usize>,
        scores: Option<Scores>,
    ) {
        let exact = self.program.bound.expr().result_type() == Type::Bool;
        let mut machine = Machine {
            registers: &mut self.registers.lanes,
            stride: self.stride,
            scalars: &self.registers.scalars,
            scalars_stride: self.program.code.scalars,
            captures: self.program.bound.captures(),
            exact,
            scores,
        };
        lanes::run(self.isa, list(&self.program.code), &mut machine, rows, range);
    }

    /// Sets the scalar registers of row `row` to query `q`.
    fn prepare_row(&mut self, row: usize, q: usize) {
        assert!(self.tile_is_ready, "`tile` comes before the rows of the tile");
        let stride = self.program.code.scalars;
        let scalars = &mut self.registers.scalars[row * stride..(row + 1) * stride];
        scalar::set_inputs(scalars, self.tile.b, self.tile.h, q as i32);
        scalar::run(&self.program.code.row, scalars, self.program.bound.captures());
    }

    /// Evaluates at most [`ROWS`] rows from query `first` on.
    fn run_rows(&mut self, first: usize, rows: usize, lanes: &Range<usize>, scores: Option<Scores>) {
        self.prepare_columns();
        for row in 0..rows {
            self.prepare_row(row, first + row);
        }
        self.run_lanes(|code| &code.element, rows, around(lanes), scores);
    }

    /// The values of a lane register, or the one value that an operand has for the whole row.
    fn values(&self, operand: Operand, row: usize, lanes: &Range<usize>) -> Result<&[u32], u32> {
        let register = |index: usize| &self.registers.lanes[index * self.stride..][lanes.clone()];
        match operand {
            Operand::Const(bits) => Err(bits),
            Operand::Scalar(r) => Err(self.registers.scalars[row * self.program.code.scalars + r as usize]),
            Operand::Column(r) => Ok(register(r as usize * ROWS)),
            Operand::Element(r) => Ok(register(r as usize * ROWS + row)),
        }
    }

    fn results(&self, row: usize, lanes: &Range<usize>) -> Result<&[u32], u32> {
        self.values(self.program.code.result.unwrap_or(Operand::Const(0)), row, lanes)
    }

    /// The keys of the tile that the mask keeps for query `q`, as a range of its lanes, where the mask compares kv with
    /// values of the row and does nothing else (causal, sliding window, padding by length, …). `None` for other masks.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn mask_limits(&mut self, q: usize) -> Option<Range<usize>> {
        let limits = self.program.limits.as_ref()?;
        self.prepare_row(0, q);
        let Tile { kv_start, len, .. } = self.tile;
        limits.keys(&self.registers.scalars, kv_start, len)
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
        self.check_faults(q, 0, &lanes, |_| true)?;
        match self.results(0, &lanes) {
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
                self.check_faults(first + row, row, &lanes, |_| true)?;
                let keep = &mut keep[(first - queries.start + row) * row_stride..][..lanes.len()];
                match self.results(row, &lanes) {
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
            if self.program.limits.is_some() || rows == 1 {
                self.summarise_row(first, &lanes, &mut summary)?;
                first += 1;
            } else {
                self.run_rows(first, rows, &lanes, None);
                for row in 0..rows {
                    self.check_faults(first + row, row, &lanes, |_| true)?;
                    summary.add(self.results(row, &lanes));
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
        self.check_faults(q, 0, lanes, |_| true)?;
        summary.add(self.results(0, lanes));
        Ok(())
    }

    /// Replaces the scores of some queries and the keys of the given lanes of the tile by `mod(factor · score)`. The rows
    /// of `scores` begin `row_stride` apart. Only faults of kept elements count: `keep` gets the row and the lane,
    /// counted from the first ones given.
    ///
    /// # Errors
    /// The fault of the first kept key (in the given lanes) of the first query that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen, the lanes are not in it, or `scores` is too short.
    pub fn score_rows(
        &mut self,
        queries: Range<usize>,
        lanes: Range<usize>,
        factor: f32,
        scores: &mut [f32],
        row_stride: usize,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Result<(), ModFault> {
        assert!(lanes.end <= self.tile.len, "the lanes are those of the tile");
        for first in queries.clone().step_by(ROWS) {
            let rows = ROWS.min(queries.end - first);
            let start = first - queries.start;
            let inputs =
                Scores { scores: &scores[start * row_stride..], row_stride, lanes: lanes.clone(), factor };
            self.run_rows(first, rows, &lanes, Some(inputs));
            for row in 0..rows {
                self.check_faults(first + row, row, &lanes, |lane| keep(start + row, lane))?;
                let scores = &mut scores[(start + row) * row_stride..][..lanes.len()];
                match self.results(row, &lanes) {
                    Ok(values) => scores.copy_from_slice(bytemuck::must_cast_slice(values)),
                    Err(value) => scores.fill(f32::from_bits(value)),
                }
            }
        }
        Ok(())
    }

    fn check_faults(
        &self,
        q: usize,
        row: usize,
        lanes: &Range<usize>,
        keep: impl Fn(usize) -> bool,
    ) -> Result<(), ModFault> {
        let Some(fault) = self.program.code.fault else { return Ok(()) };
        let faults = self.values(fault, row, lanes);
        let any = match faults {
            Ok(faults) => faults.iter().fold(0, |any, fault| any | fault) != 0,
            Err(fault) => fault != 0,
        };
        if !any {
            return Ok(());
        }
        let scores = &self.registers.lanes[(SCORE as usize * ROWS + row) * self.stride..][lanes.clone()];
        let mut interpreter = Interpreter::<f32>::new(&self.program.bound);
        for (i, lane) in lanes.clone().enumerate() {
            if keep(i) && faults.map_or_else(|fault| fault, |faults| faults[i]) != 0 {
                let Tile { b, h, kv_start, .. } = self.tile;
                let at = Point { b, h, q: q as i32, kv: kv_start.wrapping_add(lane as i32) };
                if let Err(fault) = interpreter.evaluate(at, f32::from_bits(scores[i])) {
                    return Err(ModFault::new(&self.program.bound, at, fault));
                }
            }
        }
        Ok(())
    }
}

/// The smallest range of whole groups around some lanes.
fn around(lanes: &Range<usize>) -> Range<usize> {
    lanes.start / GROUP * GROUP..lanes.end.next_multiple_of(GROUP)
}
