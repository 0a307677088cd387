//! Block masks as data: with their mask, its captures, and their tiles.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::builder::{Judgement, Plan};
use super::{BlockMask, BlockSize, Extent, MaskError, Origin, RunTable};
use crate::capture::{Array, ArrayData, Capture, CaptureValue};
use crate::ir::{Expr, Input, Scalar};
use crate::mods::MaskMod;

/// A block mask in the form in which it is saved. Serialising a [`BlockMask`] goes through it; nothing in it is trusted
/// when it is [restored](Self::restore).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedBlockMask {
    /// The version of this form.
    version: u32,
    name: String,
    /// The expression in its textual form.
    expr: String,
    captures: Vec<SavedCapture>,
    extent: Extent,
    block_size: BlockSize,
    origin: Origin,
    batch_rows: usize,
    head_rows: usize,
    rows: RunTable,
}

const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedCapture {
    name: String,
    value: SavedValue,
}

/// Floats are saved by their bits: not every format knows infinities and NaNs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedValue {
    Bool(bool),
    I32(i32),
    U32(u32),
    F32(u32),
    Bools(Vec<usize>, Box<[bool]>),
    I32s(Vec<usize>, Box<[i32]>),
    U32s(Vec<usize>, Box<[u32]>),
    F32s(Vec<usize>, Box<[u32]>),
}

impl SavedValue {
    fn new(value: &CaptureValue) -> Self {
        match value {
            CaptureValue::Scalar(Scalar::Bool(v)) => Self::Bool(*v),
            CaptureValue::Scalar(Scalar::I32(v)) => Self::I32(*v),
            CaptureValue::Scalar(Scalar::U32(v)) => Self::U32(*v),
            CaptureValue::Scalar(Scalar::F32(v)) => Self::F32(v.to_bits()),
            CaptureValue::Array(array) => {
                let shape = array.shape().to_vec();
                match array.data() {
                    ArrayData::Bool(d) => Self::Bools(shape, d.clone()),
                    ArrayData::I32(d) => Self::I32s(shape, d.clone()),
                    ArrayData::U32(d) => Self::U32s(shape, d.clone()),
                    ArrayData::F32(d) => Self::F32s(shape, d.iter().map(|v| v.to_bits()).collect()),
                }
            }
        }
    }

    fn restore(self) -> Result<CaptureValue, String> {
        let (shape, data) = match self {
            Self::Bool(v) => return Ok(CaptureValue::Scalar(v.into())),
            Self::I32(v) => return Ok(CaptureValue::Scalar(v.into())),
            Self::U32(v) => return Ok(CaptureValue::Scalar(v.into())),
            Self::F32(v) => return Ok(CaptureValue::Scalar(f32::from_bits(v).into())),
            Self::Bools(shape, d) => (shape, ArrayData::Bool(d)),
            Self::I32s(shape, d) => (shape, ArrayData::I32(d)),
            Self::U32s(shape, d) => (shape, ArrayData::U32(d)),
            Self::F32s(shape, d) => (shape, ArrayData::F32(d.iter().map(|&v| f32::from_bits(v)).collect())),
        };
        let len = match &data {
            ArrayData::Bool(d) => d.len(),
            ArrayData::I32(d) => d.len(),
            ArrayData::U32(d) => d.len(),
            ArrayData::F32(d) => d.len(),
        };
        let fits = shape.iter().all(|&axis| axis <= i32::MAX as usize);
        let count = shape.iter().try_fold(1usize, |count, &axis| count.checked_mul(axis));
        if !(1..=4).contains(&shape.len()) || !fits || count != Some(len) {
            return Err(format!("an array of shape {shape:?} has {len} elements"));
        }
        Ok(CaptureValue::Array(Arc::new(Array::new(shape, data))))
    }
}

impl SavedBlockMask {
    /// The saved form of a block mask.
    pub fn new(mask: &BlockMask) -> Self {
        let bound = mask.mask.bound();
        let saved = |c: &Capture| SavedCapture { name: c.name.clone(), value: SavedValue::new(&c.value) };
        Self {
            version: VERSION,
            name: bound.name().into(),
            expr: bound.expr().to_string(),
            captures: bound.captures().iter().map(saved).collect(),
            extent: mask.extent,
            block_size: mask.block,
            origin: mask.origin,
            batch_rows: mask.batch_rows,
            head_rows: mask.head_rows,
            rows: (*mask.rows).clone(),
        }
    }

    /// The block mask. Its tiles are found again from its mask and compared with the saved ones, so that the result
    /// proves what every block mask proves, whoever wrote the data.
    ///
    /// # Errors
    /// If the data is not a block mask, its mask faults inside the extent, or its tiles are not those of its mask.
    pub fn restore(self) -> Result<BlockMask, MaskError> {
        let corrupted = |problem: String| MaskError::Corrupted { problem };
        if self.version != VERSION {
            return Err(corrupted(format!("it has version {}, expected {VERSION}", self.version)));
        }
        let expr: Expr = self.expr.parse().map_err(|e| corrupted(format!("its expression: {e}")))?;
        let restored = |c: SavedCapture| {
            let value = c.value.restore().map_err(|e| corrupted(format!("capture `{}`: {e}", c.name)))?;
            Ok(Capture { name: c.name, value })
        };
        let captures = self.captures.into_iter().map(restored).collect::<Result<_, MaskError>>()?;
        let mask = MaskMod::new(self.name.as_str(), expr, captures).map_err(|e| corrupted(e.to_string()))?;
        if self.origin != Origin::Given {
            let judgement = match self.origin {
                Origin::Unskipped => Judgement::FaultsOnly,
                _ => Judgement::Exact,
            };
            let plan = Plan::new(&mask, self.extent, self.block_size, judgement)?;
            let built = BlockMask::from_plan(&plan, None)?;
            let same = *built.rows == self.rows && built.row_strides() == (self.batch_rows, self.head_rows);
            return if same { Ok(built) } else { Err(MaskError::Inconsistent { name: self.name }) };
        }
        let plan = Plan::new(&mask, self.extent, self.block_size, Judgement::FaultsOnly)?;
        let (q_blocks, kv_blocks) = (plan.q_blocks(), plan.kv_blocks());
        check_strides(&mask, self.extent, q_blocks, (self.batch_rows, self.head_rows), &self.rows)
            .and_then(|()| check_rows(&self.rows, kv_blocks))
            .map_err(corrupted)?;
        let elements_evaluated = plan.run(plan.all_tiles(), None)?.elements_evaluated;
        Ok(BlockMask {
            extent: self.extent,
            block: self.block_size,
            batch_rows: self.batch_rows,
            head_rows: self.head_rows,
            rows: self.rows.into(),
            origin: Origin::Given,
            elements_evaluated,
            transposed: OnceLock::new(),
            mask,
        })
    }
}

/// Checks that the rows are there that the strides lead to.
fn check_strides(
    mask: &MaskMod,
    extent: Extent,
    q_blocks: usize,
    (batch_rows, head_rows): (usize, usize),
    rows: &RunTable,
) -> Result<(), String> {
    let expr = mask.bound().expr();
    let heads = if head_rows == 0 { 1 } else { extent.heads };
    let batches = if batch_rows == 0 { 1 } else { extent.batch };
    let per_batch = q_blocks.saturating_mul(heads);
    let fits = (head_rows == q_blocks || head_rows == 0 && !expr.uses(Input::Head))
        && (batch_rows == per_batch || batch_rows == 0 && !expr.uses(Input::Batch));
    let expected = per_batch.saturating_mul(batches);
    match fits && rows.offsets.len() == expected.saturating_add(1) {
        true => Ok(()),
        false => Err(format!("it has {} rows, expected {expected}", rows.offsets.len().saturating_sub(1))),
    }
}

/// Checks the form of a table whose rows are `width` tiles wide.
fn check_rows(table: &RunTable, width: usize) -> Result<(), String> {
    let RunTable { offsets, runs } = table;
    let in_order = offsets.first() == Some(&0)
        && offsets.is_sorted()
        && offsets.last().is_some_and(|&end| end as usize == runs.len());
    if !in_order {
        return Err("the offsets of its rows are out of order".into());
    }
    for row in 0..table.rows() {
        let mut end = 0u64;
        let mut kind = None;
        for run in table.row(row) {
            let (first, len) = (u64::from(run.first()), u64::from(run.len()));
            let joins = kind == Some(run.kind()) && first == end;
            if first < end || len == 0 || first + len > width as u64 || joins {
                return Err(format!("row {row} has the run {run:?} out of place"));
            }
            (end, kind) = (first + len, Some(run.kind()));
        }
    }
    Ok(())
}

impl Serialize for BlockMask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SavedBlockMask::new(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlockMask {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SavedBlockMask::deserialize(deserializer)?.restore().map_err(serde::de::Error::custom)
    }
}
