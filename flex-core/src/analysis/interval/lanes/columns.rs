//! What is known of columns of boxes: of every tile, every sixteen neighbouring ones, and so on.

use super::super::Span;
use super::{FAN, LaneAnalysis, Lanes};

/// The exported ranges of the columns for the tiles of a stretch of keys, and for boxes of 16, 256, … of them.
///
/// Sixteen neighbouring columns are a group, and the boxes of a level are the groups of the one below.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    levels: Vec<Level>,
}

#[derive(Clone, Debug)]
struct Level {
    boxes: usize,
    /// For every group its exports one after another.
    lanes: Vec<Lanes>,
}

impl Columns {
    /// Columns of `width` keys from key `first` on, the last one ending before `end`, for one batch and head.
    pub(crate) fn new(
        analysis: &mut LaneAnalysis,
        (b, h): (i32, i32),
        (first, end): (usize, usize),
        width: usize,
    ) -> Self {
        let mut columns = Self::default();
        let mut width = width;
        loop {
            let boxes = columns.add_level(analysis, (b, h), (first, end), width);
            if boxes <= FAN {
                return columns;
            }
            width = width.saturating_mul(FAN);
        }
    }

    fn add_level(
        &mut self,
        analysis: &mut LaneAnalysis,
        (b, h): (i32, i32),
        (first, end): (usize, usize),
        width: usize,
    ) -> usize {
        let boxes = (end - first).div_ceil(width);
        let mut lanes = Vec::with_capacity(boxes.div_ceil(FAN) * analysis.column_exports());
        for group in (0..boxes).step_by(FAN) {
            let spans = (group..boxes.min(group + FAN)).map(|index| {
                let start = first + index * width;
                Span { first: start as i32, last: (end.min(start.saturating_add(width)) - 1) as i32 }
            });
            analysis.export_columns((b, h), spans, &mut lanes);
        }
        self.levels.push(Level { boxes, lanes });
        boxes
    }

    /// The level at which all columns are in one group; that of the narrowest columns is 0.
    pub(crate) fn top(&self) -> usize {
        self.levels.len() - 1
    }

    /// How many columns a group has.
    pub(crate) fn boxes_in(&self, level: usize, group: usize) -> usize {
        FAN.min(self.levels[level].boxes - group * FAN)
    }

    /// The exports of a group, of which a column has `exports`.
    pub(super) fn group(&self, exports: usize, level: usize, group: usize) -> &[Lanes] {
        &self.levels[level].lanes[group * exports..][..exports]
    }
}
