//! Products of a few rows with keys and values as they lie in memory.
//!
//! Where all rows of a key/value head are few, every key is used so little that packing it first costs more than the
//! product, and memory is the limit: each row of key and value is read once, from its place, and goes through all rows
//! of query or output while it is in registers or in the nearest cache.

mod ahead;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx_step;
mod dots;
mod order;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code, reason = "only tile registers have stages")
)]
mod pipeline;
mod squares;
#[cfg(test)]
mod tests;
mod weighted_sum;
mod widen;

use std::ops::Range;

use half::{bf16, f16};

use super::{Kernels, TILE_KEYS, simd};
use crate::attention::{DType, Elements, TensorRef};
use crate::cpu::pack;
use crate::isa::{Available, InstructionSet};

pub(in crate::cpu) use pipeline::{Operands, Pipeline};
use squares::Squares;

/// The keys or values of one head whose columns lie side by side.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct HeadRows<'a> {
    elements: Elements<'a>,
    start: usize,
    stride: usize,
    columns: usize,
}

impl<'a> HeadRows<'a> {
    /// The rows `[batch, head, ..]` of a tensor; `None` if their columns do not lie side by side.
    pub(in crate::cpu) fn new(tensor: &TensorRef<'a>, batch: usize, head: usize) -> Option<Self> {
        let ([_, _, stride, column_stride], [.., columns]) = (tensor.strides(), tensor.shape());
        let start = tensor.offset([batch, head, 0, 0]);
        (column_stride == 1).then_some(Self { elements: tensor.elements(), start, stride, columns })
    }

    /// What to ask for during a product with the rows from `first` on, at the given lanes, that is followed by one with
    /// the rows of `next` from `next_row` on. These need not be there: nothing but the cache learns of it.
    fn ahead(&self, bytes: usize, first: usize, lanes: &Range<usize>, next: &Self, next_row: usize) -> Ahead {
        let size = self.elements.dtype().size();
        let place = |rows: &Self, row: usize| {
            let start: *const u8 = match rows.elements {
                Elements::F32(x) => x.as_ptr().cast(),
                Elements::F16(x) => x.as_ptr().cast(),
                Elements::BF16(x) => x.as_ptr().cast(),
            };
            (
                start.wrapping_add((rows.start + row * rows.stride) * size),
                rows.stride * size,
                rows.columns * size,
            )
        };
        let (this, this_stride, this_row) = place(self, first);
        let (next, next_stride, next_row) = place(next, next_row);
        let rows = (bytes / this_row).clamp(4, TILE_KEYS);
        Ahead { rows, this, this_stride, this_row, end: lanes.end, next, next_stride, next_row }
    }

    /// Where row `rows.start` is, with all the rows known to be there.
    fn pointer(&self, rows: &Range<usize>) -> *const () {
        let first = self.start + rows.start * self.stride;
        let end = match rows.len() {
            0 => first,
            len => first + (len - 1) * self.stride + self.columns,
        };
        match self.elements {
            Elements::F32(x) => x[first..end].as_ptr().cast(),
            Elements::F16(x) => x[first..end].as_ptr().cast(),
            Elements::BF16(x) => x[first..end].as_ptr().cast(),
        }
    }
}

/// How far ahead of tile registers cache lines are asked for: longer than the latency of memory and than what a product
/// takes at a time (64 keys), and little beside the second cache, where they go.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const AHEAD_BYTES_OF_TILES: usize = 32768;

/// How far ahead of vectors, if they ask at all: as many values as go through all columns before the next ones do, so that
/// both fit into the nearest cache, where lines go, and still enough that sums stay in registers for a while.
const AHEAD_BYTES_OF_VECTORS: usize = 8192;

/// What is asked for while a product runs, a row for each lane: rows of this product, and at its end those of the
/// next one, so that memory is never idle. Strides and rows are in bytes.
struct Ahead {
    rows: usize,
    this: *const u8,
    this_stride: usize,
    this_row: usize,
    /// The lane where `next` begins.
    end: usize,
    next: *const u8,
    next_stride: usize,
    next_row: usize,
}

/// What a product of query and key works on; distances are in elements.
struct Dots {
    query: *const f32,
    query_stride: usize,
    rows: usize,
    /// The key of lane 0 (which is not read unless it is among the lanes).
    key: *const (),
    key_stride: usize,
    columns: usize,
    lanes: Range<usize>,
    scores: *mut f32,
    ahead: Ahead,
}

/// What a product of weights and value works on; distances are in elements.
struct WeightedSum {
    weights: *const f32,
    rescale: *const f32,
    rows: usize,
    /// The value of lane 0 (which is not read unless it is among the lanes).
    value: *const (),
    value_stride: usize,
    columns: usize,
    lanes: Range<usize>,
    out: *mut f32,
    out_stride: usize,
    /// [`InPlace::scratch_len`] floats.
    scratch: *mut f32,
    ahead: Ahead,
}

/// Where the floats of a row of query or output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As in the tensors.
    Plain,
    /// Within each group, those of even elements come before those of odd ones.
    EvenOdd,
    /// For tile registers, 16 rows at a time. Query is bf16, in pairs of elements, those of all rows side by side. Output
    /// has first the even columns of all rows, row by row, and then the odd ones.
    Tiles,
}

/// The kernels of one instruction set for keys and values of one dtype.
pub(in crate::cpu) struct InPlace {
    dtype: DType,
    /// Rows of queries and outputs have a multiple of this many floats.
    group: usize,
    order: Order,
    /// How far ahead of a product cache lines are asked for.
    ahead_bytes: usize,
    dots: unsafe fn(&Dots),
    weighted_sum: unsafe fn(&WeightedSum),
    largest_square: unsafe fn(&Squares) -> f32,
    /// Both products and the softmax between them as stages that work side by side.
    stages: Option<&'static pipeline::Stages>,
    /// The kernels whose softmax writes the weights that [`values`](Self::values) takes.
    pub(in crate::cpu) softmax: &'static Kernels,
}

impl InPlace {
    /// The kernels of an instruction set for inputs of a dtype and head dims.
    pub(in crate::cpu) fn new(
        isa: Available,
        dtype: DType,
        head_dim: usize,
        value_dim: usize,
    ) -> &'static Self {
        let whole_tiles = head_dim.is_multiple_of(32) && value_dim.is_multiple_of(32);
        let [f32, f16, bf16] = match isa.set() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            InstructionSet::Amx if dtype == DType::BF16 && whole_tiles => return &x86::AMX,
            InstructionSet::Portable => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::Amx => &x86::AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &PORTABLE,
        };
        match dtype {
            DType::F32 => f32,
            DType::F16 => f16,
            DType::BF16 => bf16,
        }
    }

    /// The kernels to use instead where values are infinite or NaN, if these ones would spoil columns beside them.
    pub(in crate::cpu) fn for_values_not_finite(&self) -> Option<&'static Self> {
        match self.order {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Order::Tiles => x86::AVX512.last(),
            _ => None,
        }
    }

    /// The floats of all rows of query, arranged.
    pub(in crate::cpu) fn query_len(&self, rows: usize, head_dim: usize) -> usize {
        match self.order {
            Order::Tiles => rows * head_dim / 2,
            _ => rows * head_dim.next_multiple_of(self.group),
        }
    }

    /// The floats of a row of output.
    pub(in crate::cpu) fn out_len(&self, value_dim: usize) -> usize {
        value_dim.next_multiple_of(self.group)
    }

    /// The floats of scratch memory that [`values`](Self::values) needs.
    pub(in crate::cpu) fn scratch_len(&self) -> usize {
        match self.order {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Order::Tiles => amx::SCRATCH,
            _ => 0,
        }
    }

    /// The largest ‖row‖² of some rows of a head; infinite where an element is infinite or NaN.
    pub(in crate::cpu) fn largest_square(&self, head: &HeadRows, rows: &Range<usize>) -> f32 {
        assert!(head.elements.dtype() == self.dtype, "the kernels are for this dtype");
        let (first, stride, columns) = (head.pointer(rows), head.stride, head.columns);
        let task = Squares { first, stride, rows: rows.len(), columns };
        // SAFETY: the rows are there and of the dtype.
        unsafe { (self.largest_square)(&task) }
    }

    /// Writes `factor · values`, row `row` of `rows`, to where the kernels read it. (For bf16 the factor is 1, 0 or −1.)
    pub(in crate::cpu) fn arrange(
        &self,
        row: usize,
        rows: usize,
        values: &[f32],
        factor: f32,
        query: &mut [f32],
    ) {
        if self.order == Order::Tiles {
            let first = row / 16 * 16;
            let (query, beside) = (&mut query[first * values.len() / 2..], 16.min(rows - first));
            for (unit, [low, high]) in values.as_chunks::<2>().0.iter().enumerate() {
                query[unit * beside + row - first] = pack::pair(low * factor, high * factor);
            }
            return;
        }
        let len = values.len().next_multiple_of(self.group);
        let to = &mut query[row * len..][..len];
        to.fill(0.0);
        for (from, to) in values.chunks(self.group).zip(to.chunks_mut(self.group)) {
            if self.order == Order::EvenOdd {
                let (even, odd) = to.split_at_mut(self.group / 2);
                for (i, x) in from.iter().enumerate() {
                    let half = if i % 2 == 0 { &mut *even } else { &mut *odd };
                    half[i / 2] = x * factor;
                }
            } else {
                to.iter_mut().zip(from).for_each(|(to, x)| *to = x * factor);
            }
        }
    }

    /// Writes the columns of row `row` of `rows` as they are to be. `out` are all rows.
    pub(in crate::cpu) fn restore(&self, out: &[f32], row: usize, rows: usize, to: &mut [f32]) {
        let len = self.out_len(to.len());
        match self.order {
            Order::Plain => to.copy_from_slice(&out[row * len..][..to.len()]),
            Order::EvenOdd => {
                let row = &out[row * len..][..len];
                for (from, to) in row.chunks(self.group).zip(to.chunks_mut(self.group)) {
                    let (even, odd) = from.split_at(self.group / 2);
                    alternate(even, odd, to);
                }
            }
            Order::Tiles => {
                let first = row / 16 * 16;
                let (out, beside) = (&out[first * len..], 16.min(rows - first));
                let half = |i: usize| &out[i * len / 2..][..len / 2];
                alternate(half(row - first), half(beside + row - first), to);
            }
        }
    }

    /// `scores[r, lane] = Σ query[r, d] · key[first_key + lane, d]`.
    ///
    /// `next` are the values of the same keys.
    ///
    /// `query` has [`query_len`](Self::query_len) floats, [`arrange`](Self::arrange)d; rows of `scores` have [`TILE_KEYS`].
    pub(in crate::cpu) fn scores(
        &self,
        query: &[f32],
        key: &HeadRows,
        first_key: usize,
        lanes: Range<usize>,
        scores: &mut [f32],
        next: &HeadRows,
    ) {
        let rows = scores.len() / TILE_KEYS;
        assert_eq!(self.dtype, key.elements.dtype(), "the kernels are those of the dtype");
        assert!(lanes.start < lanes.end && lanes.end <= TILE_KEYS, "the keys are those of the tile");
        assert!(query.len() >= self.query_len(rows, key.columns), "every row has its query");
        let start = key.pointer(&(first_key + lanes.start..first_key + lanes.end));
        let task = Dots {
            query: query.as_ptr(),
            query_stride: key.columns.next_multiple_of(self.group),
            rows,
            key: start.wrapping_byte_sub(lanes.start * key.stride * self.dtype.size()),
            key_stride: key.stride,
            columns: key.columns,
            ahead: key.ahead(self.ahead_bytes, first_key, &lanes, next, first_key + lanes.start),
            lanes,
            scores: scores.as_mut_ptr(),
        };
        // SAFETY: lengths and dtype are checked, and `new` gives only what the CPU can execute.
        unsafe { (self.dots)(&task) }
    }

    /// `out[r, c] = rescale[r] · out[r, c] + Σ weights[r, lane] · value[first_key + lane, c]`.
    ///
    /// `next` are the keys, of which tile registers ask for those of the next tile.
    ///
    /// Rows of `weights` have [`TILE_KEYS`] floats of memory, as [`softmax`](Self::softmax) leaves them; those of `out`
    /// have [`out_len`](Self::out_len), to be [`restore`](Self::restore)d.
    #[expect(clippy::too_many_arguments, reason = "the operands of a product, each a buffer of the caller")]
    pub(in crate::cpu) fn values(
        &self,
        weights: &[f32],
        value: &HeadRows,
        first_key: usize,
        lanes: Range<usize>,
        rescale: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
        next: &HeadRows,
    ) {
        let (rows, out_stride) = (weights.len() / TILE_KEYS, self.out_len(value.columns));
        assert!(scratch.len() >= self.scratch_len(), "there is scratch memory");
        assert_eq!(self.dtype, value.elements.dtype(), "the kernels are those of the dtype");
        assert!(lanes.start < lanes.end && lanes.end <= TILE_KEYS, "the keys are those of the tile");
        assert!(rescale.len() >= rows && out.len() >= rows * out_stride, "every row has its output");
        let start = value.pointer(&(first_key + lanes.start..first_key + lanes.end));
        let task = WeightedSum {
            weights: weights.as_ptr(),
            rescale: rescale.as_ptr(),
            rows,
            value: start.wrapping_byte_sub(lanes.start * value.stride * self.dtype.size()),
            value_stride: value.stride,
            columns: value.columns,
            ahead: value.ahead(self.ahead_bytes, first_key, &lanes, next, first_key + TILE_KEYS),
            lanes,
            out: out.as_mut_ptr(),
            out_stride,
            scratch: scratch.as_mut_ptr(),
        };
        // SAFETY: as above.
        unsafe { (self.weighted_sum)(&task) }
    }
}

/// Writes the elements of two slices in turns.
fn alternate(even: &[f32], odd: &[f32], to: &mut [f32]) {
    for (i, to) in to.iter_mut().enumerate() {
        *to = if i % 2 == 0 { even[i / 2] } else { odd[i / 2] };
    }
}

/// Instantiates the kernels of an instruction set for one dtype.
macro_rules! in_place {
    ($simd:ty, $element:ty, $dtype:ident, $softmax:expr $(, features $features:literal)?) => {{
        // SAFETY of the functions: that of the generic ones they are made of.
        $(#[target_feature(enable = $features)])?
        unsafe fn dots(task: &Dots) {
            // SAFETY: the caller's.
            unsafe { dots::dots::<$simd, $element>(task) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn weighted_sum(task: &WeightedSum) {
            // SAFETY: the caller's.
            unsafe { weighted_sum::weighted_sum::<$simd, $element>(task) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn largest_square(task: &Squares) -> f32 {
            // SAFETY: the caller's.
            unsafe { squares::largest_square::<$simd, $element>(task) }
        }
        InPlace {
            dtype: DType::$dtype,
            group: 2 * <$simd as simd::Simd>::LANES,
            order: match <$simd as widen::Widen<$element>>::EVEN_ODD {
                true => Order::EvenOdd,
                false => Order::Plain,
            },
            ahead_bytes: AHEAD_BYTES_OF_VECTORS,
            dots,
            weighted_sum,
            largest_square,
            stages: None,
            softmax: &$softmax,
        }
    }};
}

/// For f32, f16 and bf16.
static PORTABLE: [InPlace; 3] = [
    in_place!(simd::Portable, f32, F32, super::PORTABLE),
    in_place!(simd::Portable, f16, F16, super::PORTABLE),
    in_place!(simd::Portable, bf16, BF16, super::PORTABLE),
];

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::x86 as kernels;
    use super::simd::{Avx2, Avx512};
    use super::*;

    pub(super) static AVX2: [InPlace; 3] = [
        in_place!(Avx2, f32, F32, kernels::AVX2, features "avx2,fma"),
        in_place!(Avx2, f16, F16, kernels::AVX2, features "avx2,fma,f16c"),
        in_place!(Avx2, bf16, BF16, kernels::AVX2, features "avx2,fma"),
    ];

    pub(super) static AVX512: [InPlace; 3] = [
        in_place!(Avx512, f32, F32, kernels::AVX512, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"),
        in_place!(Avx512, f16, F16, kernels::AVX512, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"),
        in_place!(Avx512, bf16, BF16, kernels::AVX512, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"),
    ];

    #[cfg(target_os = "linux")]
    pub(super) static AMX: InPlace = {
        // SAFETY of the functions: that of the ones they call.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn dots(task: &Dots) {
            // SAFETY: the caller's.
            unsafe { amx::dots(task) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn weighted_sum(task: &WeightedSum) {
            // SAFETY: the caller's.
            unsafe { amx::weighted_sum(task) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn largest_square(task: &Squares) -> f32 {
            // SAFETY: the caller's.
            unsafe { squares::largest_square::<Avx512, bf16>(task) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn order(products: *const f32, rows: usize, scores: *mut f32) {
            // SAFETY: the caller's.
            unsafe { amx_step::order(products, rows, scores) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn update_maxima(task: &mut pipeline::Maxima) {
            // SAFETY: the caller's.
            unsafe { amx_step::update_maxima(task) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
        unsafe fn step(task: &pipeline::Step) {
            // SAFETY: the caller's.
            unsafe { amx_step::step(task) }
        }
        InPlace {
            dtype: DType::BF16,
            group: 32,
            order: Order::Tiles,
            ahead_bytes: AHEAD_BYTES_OF_TILES,
            dots,
            weighted_sum,
            largest_square,
            stages: Some(&pipeline::Stages { order, update_maxima, step }),
            softmax: &kernels::AMX,
        }
    };
}
