//! Bounds of captured arrays over ranges of their elements: what lets analyses decide a tile without reading it.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Array, ArrayData};

/// Between which values the elements of a range lie. Both ends are elements of the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementRange {
    /// Of integers, and of bools as 0 and 1.
    Int {
        /// The smallest element.
        min: i64,
        /// The largest element.
        max: i64,
    },
    /// Of floats.
    Float {
        /// The smallest element that is a number; +∞ where there is none.
        min: f32,
        /// The largest element that is a number; −∞ where there is none.
        max: f32,
        /// Whether some element is a NaN.
        nan: bool,
    },
}

impl ElementRange {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Int { min, max }, Self::Int { min: other_min, max: other_max }) => {
                Self::Int { min: min.min(other_min), max: max.max(other_max) }
            }
            (
                Self::Float { min, max, nan },
                Self::Float { min: other_min, max: other_max, nan: other_nan },
            ) => Self::Float { min: min.min(other_min), max: max.max(other_max), nan: nan | other_nan },
            (same, _) => same,
        }
    }
}

/// The answer of [`Array::bounds`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrayBounds {
    /// Bounds of the elements.
    pub range: ElementRange,
    /// Whether both bounds are elements of the box that was asked for. Otherwise they are bounds of a larger range.
    pub attained: bool,
}

/// Over how many rows of a view of rank 2 and more a box is answered exactly; larger ones are answered by the
/// contiguous range around them.
const MAX_EXACT_ROWS: i64 = 16;

impl Array {
    /// Bounds of the elements whose indices lie between `first` and `last`, both inclusive and inside the shape, one an
    /// axis. O(1) where the array is sorted on the range, O(log n) otherwise; the first call on an array is O(n).
    pub fn bounds(&self, first: &[usize], last: &[usize]) -> ArrayBounds {
        let shape = self.shape();
        let rank = shape.len();
        if let (&[first], &[last]) = (first, last) {
            return ArrayBounds { range: self.element_range(first..last + 1), attained: true };
        }
        let flatten =
            |index: &[usize]| index.iter().zip(shape).fold(0, |offset, (&i, &len)| offset * len + i);
        let leading = first[..rank - 1].iter().zip(&last[..rank - 1]);
        let rows = leading
            .clone()
            .try_fold(1i64, |rows, (&a, &b)| rows.checked_mul((b - a + 1) as i64))
            .unwrap_or(i64::MAX);
        if rows == 1 {
            let range = self.element_range(flatten(first)..flatten(last) + 1);
            return ArrayBounds { range, attained: true };
        }
        if rows > MAX_EXACT_ROWS {
            let range = self.element_range(flatten(first)..flatten(last) + 1);
            // The range around whole rows of the innermost axis has nothing outside the box when only the first axis
            // varies besides it.
            let whole = (1..rank).all(|axis| first[axis] == 0 && last[axis] + 1 == shape[axis]);
            return ArrayBounds { range, attained: whole };
        }
        let mut row = first.to_vec();
        let mut range: Option<ElementRange> = None;
        for _ in 0..rows {
            let start = flatten(&row);
            let part = self.element_range(start..start + last[rank - 1] - first[rank - 1] + 1);
            range = Some(range.map_or(part, |r| r.join(part)));
            for axis in (0..rank - 1).rev() {
                row[axis] += 1;
                if row[axis] <= last[axis] {
                    break;
                }
                row[axis] = first[axis];
            }
        }
        let range = range.unwrap_or_else(|| self.element_range(0..1));
        ArrayBounds { range, attained: true }
    }

    /// Bounds of the elements at a non-empty range of row-major offsets inside the array.
    pub fn element_range(&self, offsets: Range<usize>) -> ElementRange {
        match (self.range_index(), self.data()) {
            (RangeIndex::Bool(index), ArrayData::Bool(d)) => index.range(d, offsets),
            (RangeIndex::I32(index), ArrayData::I32(d)) => index.range(d, offsets),
            (RangeIndex::U32(index), ArrayData::U32(d)) => index.range(d, offsets),
            (RangeIndex::F32(index), ArrayData::F32(d)) => {
                let FloatBounds { min, max, nan } = index.query(d, offsets);
                ElementRange::Float { min, max, nan }
            }
            _ => unreachable!("an index has the type of its array"),
        }
    }

    /// Whether the elements at a range of row-major offsets are known to be in non-decreasing order. Never for floats
    /// and for arrays that are mostly out of order.
    pub fn is_sorted_on(&self, offsets: Range<usize>) -> bool {
        match self.range_index() {
            RangeIndex::Bool(index) => index.is_sorted_on(offsets),
            RangeIndex::I32(index) => index.is_sorted_on(offsets),
            RangeIndex::U32(index) => index.is_sorted_on(offsets),
            RangeIndex::F32(_) => false,
        }
    }

    /// Whether all elements at a non-empty range of row-major offsets are one number.
    pub fn is_constant_on(&self, offsets: Range<usize>) -> bool {
        match self.element_range(offsets) {
            ElementRange::Int { min, max } => min == max,
            ElementRange::Float { min, max, nan } => min == max && !nan,
        }
    }
}

/// Answers range queries on the elements of one array; built when first asked.
#[derive(Debug)]
pub(super) enum RangeIndex {
    Bool(OrderedIndex<bool>),
    I32(OrderedIndex<i32>),
    U32(OrderedIndex<u32>),
    F32(Tree<FloatBounds>),
}

impl RangeIndex {
    pub(super) fn new(data: &ArrayData) -> Self {
        match data {
            ArrayData::Bool(d) => Self::Bool(OrderedIndex::new(d)),
            ArrayData::I32(d) => Self::I32(OrderedIndex::new(d)),
            ArrayData::U32(d) => Self::U32(OrderedIndex::new(d)),
            ArrayData::F32(d) => Self::F32(Tree::new(d)),
        }
    }
}

/// Where the order of the elements breaks, and a tree for the ranges where it breaks too often.
#[derive(Debug)]
pub(super) struct OrderedIndex<T> {
    /// Every `i` with `data[i] < data[i - 1]`; absent where there are too many.
    descents: Option<Box<[u32]>>,
    tree: OnceLock<Tree<(T, T)>>,
}

/// How many breaks of the order a query looks at before it asks the tree.
const MAX_PIECES: usize = 4;

impl<T: Copy + Ord + Into<i64> + std::fmt::Debug> OrderedIndex<T> {
    fn new(data: &[T]) -> Self {
        const CHUNK: usize = 1024;
        let limit = data.len() / 64 + 64;
        let mut descents = Vec::new();
        for start in (1..data.len()).step_by(CHUNK) {
            let end = data.len().min(start + CHUNK);
            let pairs = data[start - 1..end - 1].iter().zip(&data[start..end]);
            // Counting has no branch, so most chunks pass at the speed of memory.
            if pairs.clone().map(|(a, b)| u32::from(b < a)).sum::<u32>() > 0 {
                descents
                    .extend(pairs.enumerate().filter(|(_, (a, b))| b < a).map(|(i, _)| (start + i) as u32));
            }
            if descents.len() > limit {
                return Self { descents: None, tree: OnceLock::new() };
            }
        }
        Self { descents: Some(descents.into()), tree: OnceLock::new() }
    }

    /// The breaks of the order inside a range, between its first and its last element.
    fn descents_in(&self, offsets: &Range<usize>) -> Option<&[u32]> {
        let all = self.descents.as_deref()?;
        if all.is_empty() {
            return Some(all);
        }
        let from = all.partition_point(|&i| i as usize <= offsets.start);
        let len = all[from..].partition_point(|&i| (i as usize) < offsets.end);
        Some(&all[from..from + len])
    }

    fn is_sorted_on(&self, offsets: Range<usize>) -> bool {
        self.descents_in(&offsets).is_some_and(<[u32]>::is_empty)
    }

    fn range(&self, data: &[T], offsets: Range<usize>) -> ElementRange {
        let (min, max) = match self.descents_in(&offsets) {
            Some(breaks) if breaks.len() <= MAX_PIECES => {
                let (mut min, mut max) = (data[offsets.start], data[offsets.end - 1]);
                for &i in breaks {
                    min = min.min(data[i as usize]);
                    max = max.max(data[i as usize - 1]);
                }
                (min, max)
            }
            _ => self.tree.get_or_init(|| Tree::new(data)).query(data, offsets),
        };
        ElementRange::Int { min: min.into(), max: max.into() }
    }
}

/// What a tree keeps of a group of elements.
pub(super) trait Summary: Copy {
    type Element: Copy;
    fn of(element: Self::Element) -> Self;
    fn join(self, other: Self) -> Self;
}

impl<T: Copy + Ord> Summary for (T, T) {
    type Element = T;

    fn of(element: T) -> Self {
        (element, element)
    }

    fn join(self, other: Self) -> Self {
        (self.0.min(other.0), self.1.max(other.1))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FloatBounds {
    min: f32,
    max: f32,
    nan: bool,
}

impl Summary for FloatBounds {
    type Element = f32;

    fn of(element: f32) -> Self {
        match element.is_nan() {
            true => Self { min: f32::INFINITY, max: f32::NEG_INFINITY, nan: true },
            false => Self { min: element, max: element, nan: false },
        }
    }

    fn join(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), nan: self.nan | other.nan }
    }
}

/// Summaries of groups of [`FAN`] elements, of groups of groups, and so on. A sixteenth of the array's size.
#[derive(Debug)]
pub(super) struct Tree<S> {
    levels: Vec<Box<[S]>>,
}

const FAN: usize = 32;

impl<S: Summary> Tree<S> {
    fn new(data: &[S::Element]) -> Self {
        let group = |summaries: &[S]| summaries.iter().copied().reduce(S::join);
        let mut levels: Vec<Box<[S]>> = Vec::new();
        if data.len() > FAN {
            let first = data.chunks(FAN).map(|c| c[1..].iter().fold(S::of(c[0]), |s, &e| s.join(S::of(e))));
            levels.push(first.collect());
            while let Some(last) = levels.last().filter(|level| level.len() > FAN) {
                let next = last.chunks(FAN).filter_map(group).collect();
                levels.push(next);
            }
        }
        Self { levels }
    }

    fn query(&self, data: &[S::Element], offsets: Range<usize>) -> S {
        let (mut lo, mut hi) = (offsets.start, offsets.end);
        let mut total = S::of(data[lo]);
        let mut below: Option<&[S]> = None;
        for level in self.levels.iter().map(|level| Some(&**level)).chain([None]) {
            let at = |i: usize| below.map_or_else(|| S::of(data[i]), |summaries| summaries[i]);
            let (inner_lo, inner_hi) = (lo.div_ceil(FAN), hi / FAN);
            if level.is_none() || inner_lo >= inner_hi {
                return (lo..hi).fold(total, |s, i| s.join(at(i)));
            }
            total = (lo..inner_lo * FAN).chain(inner_hi * FAN..hi).fold(total, |s, i| s.join(at(i)));
            (lo, hi, below) = (inner_lo, inner_hi, level);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{IntoArray, View};
    use proptest::prelude::*;

    fn ints(range: ElementRange) -> (i64, i64) {
        match range {
            ElementRange::Int { min, max } => (min, max),
            ElementRange::Float { .. } => panic!("expected integers, got {range:?}"),
        }
    }

    proptest! {
        #[test]
        fn bounds_are_the_extremes_of_the_range(
            mut data in prop::collection::vec(-50i32..50, 1..3000),
            (sort_from, sort_to, a, b) in any::<(usize, usize, usize, usize)>(),
        ) {
            let n = data.len();
            let (from, to) = (sort_from % n, sort_to % n);
            data[from.min(to)..=from.max(to)].sort_unstable();
            let (a, b) = (a % n, b % n);
            let (lo, hi) = (a.min(b), a.max(b) + 1);
            let array = (&data).into_array();
            let part = &data[lo..hi];
            let expected = (i64::from(*part.iter().min().unwrap()), i64::from(*part.iter().max().unwrap()));
            prop_assert_eq!(ints(array.element_range(lo..hi)), expected);
            prop_assert_eq!(array.is_constant_on(lo..hi), expected.0 == expected.1);
            // Sortedness may be unknown, but is never claimed wrongly.
            prop_assert!(!array.is_sorted_on(lo..hi) || part.is_sorted());
        }

        #[test]
        fn boxes_of_views_contain_their_elements(
            shape in [1usize..40, 1usize..6, 1usize..9],
            corners in any::<[[usize; 3]; 2]>(),
            seed in any::<u64>(),
        ) {
            let count: usize = shape.iter().product();
            let data: Vec<i32> =
                (0..count).map(|i| ((i as u64).wrapping_mul(seed | 1) >> 40) as i32 % 100).collect();
            let array = View::new(&data, shape).unwrap().into_array();
            let corner = |pick: fn(usize, usize) -> usize| -> Vec<usize> {
                (0..3).map(|axis| pick(corners[0][axis] % shape[axis], corners[1][axis] % shape[axis])).collect()
            };
            let (first, last) = (corner(usize::min), corner(usize::max));
            let (mut min, mut max) = (i64::MAX, i64::MIN);
            for i in first[0]..=last[0] {
                for j in first[1]..=last[1] {
                    for k in first[2]..=last[2] {
                        let value = i64::from(data[(i * shape[1] + j) * shape[2] + k]);
                        (min, max) = (min.min(value), max.max(value));
                    }
                }
            }
            let bounds = array.bounds(&first, &last);
            let (got_min, got_max) = ints(bounds.range);
            prop_assert!(got_min <= min && max <= got_max);
            if bounds.attained {
                prop_assert_eq!((got_min, got_max), (min, max));
            }
        }
    }

    #[test]
    fn sorted_arrays_know_it() {
        let sorted: Vec<i32> = (0..10_000).map(|i| i / 7).collect();
        assert!((&sorted).into_array().is_sorted_on(0..10_000));
        let two_rows: Vec<i32> = (0..2000).map(|i| (i % 1000) / 10).collect();
        let array = (&two_rows).into_array();
        assert!(array.is_sorted_on(0..1000) && array.is_sorted_on(1000..2000));
        assert!(!array.is_sorted_on(999..1001));
    }

    #[test]
    fn nans_are_reported_and_do_not_spoil_the_bounds() {
        let array = (&[1.0f32, f32::NAN, -2.0]).into_array();
        assert_eq!(array.element_range(0..3), ElementRange::Float { min: -2.0, max: 1.0, nan: true });
        assert_eq!(array.element_range(2..3), ElementRange::Float { min: -2.0, max: -2.0, nan: false });
    }
}
