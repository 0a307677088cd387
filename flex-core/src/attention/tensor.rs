//! Borrowed tensors in host memory.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::AttentionError;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl DType {
    /// The size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The usual lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of a host tensor.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// f32.
    F32(&'a [f32]),
    /// f16.
    F16(&'a [f16]),
    /// bf16.
    BF16(&'a [bf16]),
}

impl Elements<'_> {
    /// Their type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(d) => d.len(),
            Self::F16(d) => d.len(),
            Self::BF16(d) => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One element, widened.
    pub fn get(&self, offset: usize) -> f32 {
        match self {
            Self::F32(d) => d[offset],
            Self::F16(d) => d[offset].to_f32(),
            Self::BF16(d) => d[offset].to_f32(),
        }
    }
}

/// Elements to write.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// f32.
    F32(&'a mut [f32]),
    /// f16.
    F16(&'a mut [f16]),
    /// bf16.
    BF16(&'a mut [bf16]),
}

impl ElementsMut<'_> {
    /// The elements to read.
    pub fn as_elements(&self) -> Elements<'_> {
        match self {
            Self::F32(d) => Elements::F32(d),
            Self::F16(d) => Elements::F16(d),
            Self::BF16(d) => Elements::BF16(d),
        }
    }

    /// Their type.
    pub fn dtype(&self) -> DType {
        self.as_elements().dtype()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_elements().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A borrowed tensor `[batch, heads, len, head_dim]` with any strides.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    elements: Elements<'a>,
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a> TensorRef<'a> {
    /// A tensor with the given shape and strides (in elements; 0 repeats) over `elements`.
    ///
    /// # Errors
    /// If a dimension is 0 or over `i32::MAX`, or some element would lie outside `elements`.
    pub fn new(
        name: &'static str,
        elements: Elements<'a>,
        shape: [usize; 4],
        strides: [usize; 4],
    ) -> Result<Self, AttentionError> {
        if shape.contains(&0) {
            return Err(AttentionError::EmptyTensor { tensor: name, shape });
        }
        let reach = shape
            .iter()
            .zip(&strides)
            .try_fold(1usize, |sum, (&len, &stride)| sum.checked_add((len - 1).checked_mul(stride)?));
        let fits = shape.iter().all(|&len| len <= i32::MAX as usize);
        match reach {
            Some(reach) if fits && reach <= elements.len() => Ok(Self { elements, shape, strides }),
            Some(needed) if fits => {
                Err(AttentionError::OutOfData { tensor: name, shape, strides, needed, got: elements.len() })
            }
            _ => Err(AttentionError::TooLarge { tensor: name, shape, strides }),
        }
    }

    /// A contiguous row-major tensor.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn contiguous(
        name: &'static str,
        elements: Elements<'a>,
        shape: [usize; 4],
    ) -> Result<Self, AttentionError> {
        let [_, h, s, d] = shape;
        let strides = s.checked_mul(d).and_then(|sd| Some([h.checked_mul(sd)?, sd, d, 1]));
        let strides = strides.ok_or(AttentionError::TooLarge { tensor: name, shape, strides: [0; 4] })?;
        Self::new(name, elements, shape, strides)
    }

    /// The elements that the strides address.
    pub fn elements(&self) -> Elements<'a> {
        self.elements
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.elements.dtype()
    }

    /// `[batch, heads, len, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The distance in elements from one index to the next, a dimension; 0 repeats.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The offset of an element inside [`elements`](Self::elements).
    pub fn offset(&self, index: [usize; 4]) -> usize {
        index.iter().zip(&self.strides).map(|(i, s)| i * s).sum()
    }

    /// One element, widened.
    pub fn get(&self, index: [usize; 4]) -> f32 {
        self.elements.get(self.offset(index))
    }
}
