//! A captured array: contiguous, row-major, immutable.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::range_index::RangeIndex;
use crate::ir::{Scalar, Type};

/// The elements of a captured array.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrayData {
    /// bool elements.
    Bool(Box<[bool]>),
    /// i32 elements.
    I32(Box<[i32]>),
    /// u32 elements.
    U32(Box<[u32]>),
    /// f32 elements.
    F32(Box<[f32]>),
}

/// A captured array. Its contents never change, so analyses and device copies of it stay valid.
#[derive(Debug)]
pub struct Array {
    id: u64,
    shape: Vec<usize>,
    data: ArrayData,
    range_index: OnceLock<RangeIndex>,
}

impl Array {
    /// An array of rank 1 to 4. The caller has checked that the data has as many elements as the shape.
    pub(crate) fn new(shape: Vec<usize>, data: ArrayData) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), shape, data, range_index: OnceLock::new() }
    }

    /// A number that no other array of this process has: the key for copies on devices.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The length of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the elements.
    pub fn ty(&self) -> Type {
        match self.data {
            ArrayData::Bool(_) => Type::Bool,
            ArrayData::I32(_) => Type::I32,
            ArrayData::U32(_) => Type::U32,
            ArrayData::F32(_) => Type::F32,
        }
    }

    /// Answers range queries; built by the first.
    pub(super) fn range_index(&self) -> &RangeIndex {
        self.range_index.get_or_init(|| RangeIndex::new(&self.data))
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &ArrayData {
        &self.data
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            ArrayData::Bool(d) => d.len(),
            ArrayData::I32(d) => d.len(),
            ArrayData::U32(d) => d.len(),
            ArrayData::F32(d) => d.len(),
        }
    }

    /// Whether some axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at a row-major offset; `None` outside the array.
    pub fn get(&self, offset: usize) -> Option<Scalar> {
        match &self.data {
            ArrayData::Bool(d) => d.get(offset).copied().map(Scalar::Bool),
            ArrayData::I32(d) => d.get(offset).copied().map(Scalar::I32),
            ArrayData::U32(d) => d.get(offset).copied().map(Scalar::U32),
            ArrayData::F32(d) => d.get(offset).copied().map(Scalar::F32),
        }
    }
}
