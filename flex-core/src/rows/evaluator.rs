//! Programs and the registers they run on.

use std::ops::Range;

use super::bounds::{self, Limits};
use super::compile::{self, Code, KEY, SCORE};
use super::instr::Operand;
use super::lanes::{self, GROUP, Machine};
use super::scalar;
use crate::analysis::interpret::{Interpreter, Point};
use crate::ir::Type;
use crate::isa::InstructionSet;
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

/// Which values a mask has in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSummary {
    /// Whether some key is kept.
    pub keeps_some: bool,
    /// Whether some key is skipped.
    pub skips_some: bool,
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
    isa: InstructionSet,
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
        registers.scalars.resize(program.code.scalars, 0);
        // Whatever is there is overwritten before it is read.
        registers.lanes.resize(program.code.lanes * stride, 0);
        Self {
            program,
            isa: isa.or_available(),
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
        let code = &self.program.code;
        if !(self.tile_is_ready && (self.tile.b, self.tile.h) == (tile.b, tile.h)) {
            scalar::set_inputs(&mut self.registers.scalars, tile.b, tile.h, 0);
            scalar::run(&code.head, &mut self.registers.scalars, self.program.bound.captures());
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
        let keys = &mut self.registers.lanes[KEY as usize * self.stride..][..width];
        for (i, key) in keys.iter_mut().enumerate() {
            *key = self.tile.kv_start.wrapping_add(i as i32) as u32;
        }
        self.run_lanes(|code| &code.column, 0..width);
        self.columns_are_ready = true;
    }

    fn run_lanes(&mut self, list: impl Fn(&'p Code) -> &'p Vec<super::instr::Instr>, range: Range<usize>) {
        let exact = self.program.bound.expr().result_type() == Type::Bool;
        let mut machine = Machine {
            registers: &mut self.registers.lanes,
            stride: self.stride,
            scalars: &self.registers.scalars,
            captures: self.program.bound.captures(),
            exact,
        };
        lanes::run(self.isa, list(&self.program.code), &mut machine, range);
    }

    fn prepare_row(&mut self, q: usize) {
        assert!(self.tile_is_ready, "`tile` comes before the rows of the tile");
        scalar::set_inputs(&mut self.registers.scalars, self.tile.b, self.tile.h, q as i32);
        scalar::run(&self.program.code.row, &mut self.registers.scalars, self.program.bound.captures());
    }

    fn value(&self, operand: Operand, lane: usize) -> u32 {
        match operand {
            Operand::Const(bits) => bits,
            Operand::Scalar(r) => self.registers.scalars[r as usize],
            Operand::Lanes(r) => self.registers.lanes[r as usize * self.stride + lane],
        }
    }

    /// The keys of the tile that the mask keeps for query `q`, as a range of its lanes, where the mask compares kv with
    /// values of the row and does nothing else (causal, sliding window, padding by length, …). `None` for other masks.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn mask_limits(&mut self, q: usize) -> Option<Range<usize>> {
        let limits = self.program.limits.as_ref()?;
        self.prepare_row(q);
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
        self.prepare_columns();
        self.prepare_row(q);
        self.run_lanes(|code| &code.element, around(&lanes));
        self.check_faults(q, lanes.clone(), None)?;
        match self.program.code.result {
            Some(Operand::Lanes(r)) => {
                let kept = &self.registers.lanes[r as usize * self.stride..][lanes];
                for (keep, &bits) in keep.iter_mut().zip(kept) {
                    *keep = bits != 0;
                }
            }
            result => keep.fill(result.is_some_and(|r| self.value(r, 0) != 0)),
        }
        Ok(())
    }

    /// Whether the mask keeps some key of the tile for query `q`, and whether it skips some.
    ///
    /// # Errors
    /// The fault of the first key that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen.
    pub fn mask_summary(&mut self, q: usize) -> Result<RowSummary, ModFault> {
        let len = self.tile.len;
        if let Some(kept) = self.mask_limits(q) {
            return Ok(RowSummary { keeps_some: !kept.is_empty(), skips_some: kept.len() < len });
        }
        self.prepare_columns();
        self.prepare_row(q);
        self.run_lanes(|code| &code.element, around(&(0..len)));
        self.check_faults(q, 0..len, None)?;
        let (any, all) = match self.program.code.result {
            Some(Operand::Lanes(r)) => {
                let kept = &self.registers.lanes[r as usize * self.stride..][..len];
                kept.iter().fold((0, 1), |(any, all), &keep| (any | keep, all & keep))
            }
            result => {
                let keep = result.map_or(0, |r| self.value(r, 0));
                (keep, keep)
            }
        };
        Ok(RowSummary { keeps_some: any != 0, skips_some: all == 0 })
    }

    /// Replaces `scores` of query `q` and the keys of the given lanes of the tile by `mod(factor · score)`. Only faults
    /// of keys with `keep` count; `None` keeps all.
    ///
    /// # Errors
    /// The fault of the first kept key (in the given lanes) that has one.
    ///
    /// # Panics
    /// If no [`tile`](Self::tile) was chosen, the lanes are not in it, or `scores` or `keep` has another length.
    pub fn score_row(
        &mut self,
        q: usize,
        lanes: Range<usize>,
        factor: f32,
        scores: &mut [f32],
        keep: Option<&[bool]>,
    ) -> Result<(), ModFault> {
        assert!(lanes.end <= self.tile.len && scores.len() == lanes.len(), "the lanes are those of the tile");
        self.prepare_columns();
        self.prepare_row(q);
        let inputs = &mut self.registers.lanes[SCORE as usize * self.stride..][lanes.clone()];
        for (input, score) in inputs.iter_mut().zip(&*scores) {
            *input = (score * factor).to_bits();
        }
        self.run_lanes(|code| &code.element, around(&lanes));
        self.check_faults(q, lanes.clone(), keep)?;
        match self.program.code.result {
            Some(Operand::Lanes(r)) => {
                let results = &self.registers.lanes[r as usize * self.stride..][lanes];
                for (score, &bits) in scores.iter_mut().zip(results) {
                    *score = f32::from_bits(bits);
                }
            }
            result => scores.fill(result.map_or(0.0, |r| f32::from_bits(self.value(r, 0)))),
        }
        Ok(())
    }

    fn check_faults(&self, q: usize, lanes: Range<usize>, keep: Option<&[bool]>) -> Result<(), ModFault> {
        let Some(fault) = self.program.code.fault else { return Ok(()) };
        let any = match fault {
            Operand::Lanes(r) => {
                let faults = &self.registers.lanes[r as usize * self.stride..][lanes.clone()];
                faults.iter().fold(0, |any, fault| any | fault) != 0
            }
            one => self.value(one, 0) != 0,
        };
        if !any {
            return Ok(());
        }
        let first = lanes.start;
        let mut interpreter = Interpreter::<f32>::new(&self.program.bound);
        for lane in lanes {
            let counts = keep.is_none_or(|keep| keep[lane - first]);
            if counts && self.value(fault, lane) != 0 {
                let score = f32::from_bits(self.value(Operand::Lanes(SCORE), lane));
                let Tile { b, h, kv_start, .. } = self.tile;
                let at = Point { b, h, q: q as i32, kv: kv_start.wrapping_add(lane as i32) };
                if let Err(fault) = interpreter.evaluate(at, score) {
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
