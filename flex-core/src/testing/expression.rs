//! The strategies: what kind of expression, and where to evaluate it.

use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::*;

use super::captures::capture;
use super::grow::grow;
use crate::analysis::interpret::Point;
use crate::ir::Type;
use crate::mods::{BoundExpr, MaskMod, ScoreMod};

/// Whether expressions may divide integers by zero or load out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Loads and integer divisions are unguarded about half of the time, and arrays may be empty.
    Possible,
    /// Every load is clamped or guarded and every integer divisor is made non-zero: no fault at any point.
    Never,
}

/// What expressions to make.
#[derive(Clone, Debug)]
pub struct ExprConfig {
    /// The type of the root.
    pub result: Type,
    /// Whether the score may be used.
    pub score: bool,
    /// Whether faults are possible.
    pub faults: Faults,
    /// Whether functions that are not exactly rounded may occur (exp, ln, sin, tanh, pow …): their last bits differ
    /// between implementations.
    pub transcendental: bool,
    /// How many operations are made; those that the root does not need are dropped again.
    pub steps: RangeInclusive<usize>,
    /// How many captures are declared at most.
    pub captures: usize,
    /// The highest rank of a capture, 0 to 4.
    pub max_rank: u8,
}

impl ExprConfig {
    /// Masks: bool, no score, faults possible.
    pub fn mask() -> Self {
        Self {
            result: Type::Bool,
            score: false,
            faults: Faults::Possible,
            transcendental: true,
            steps: 1..=32,
            captures: 4,
            max_rank: 4,
        }
    }

    /// Score mods: f32 over all inputs, faults possible.
    pub fn score() -> Self {
        Self { result: Type::F32, score: true, ..Self::mask() }
    }

    /// The same without faults.
    pub fn without_faults(self) -> Self {
        Self { faults: Faults::Never, ..self }
    }

    /// The same with exactly rounded operations only, so that every correct implementation has the same bits.
    pub fn exact(self) -> Self {
        Self { transcendental: false, ..self }
    }

    /// The same with another number of operations.
    pub fn steps(self, steps: RangeInclusive<usize>) -> Self {
        Self { steps, ..self }
    }
}

/// Random bound expressions. They shrink towards fewer operations and fewer captures.
pub fn expressions(config: ExprConfig) -> impl Strategy<Value = BoundExpr> {
    let (operations, captures) =
        (vec(any::<u64>(), config.steps.clone()), vec(any::<u64>(), 0..=config.captures));
    (operations, captures).prop_map(move |(operations, captures)| {
        let captures = captures
            .iter()
            .enumerate()
            .map(|(i, &seed)| capture(format!("c{i}"), seed, config.max_rank, config.faults))
            .collect();
        grow(&config, &operations, captures)
    })
}

/// Random masks. The configuration's result must be bool without the score.
pub fn masks(config: ExprConfig) -> impl Strategy<Value = MaskMod> {
    expressions(config).prop_map(|bound| {
        MaskMod::new(bound.name(), (**bound.expr()).clone(), bound.captures().to_vec())
            .expect("the configuration is one of a mask")
    })
}

/// Random score mods. The configuration's result must be f32.
pub fn score_mods(config: ExprConfig) -> impl Strategy<Value = ScoreMod> {
    expressions(config).prop_map(|bound| {
        ScoreMod::new(bound.name(), (**bound.expr()).clone(), bound.captures().to_vec())
            .expect("the configuration is one of a score mod")
    })
}

/// Points inside an attention problem's extents, each at least 1.
pub fn points_within(batch: i32, heads: i32, q_len: i32, kv_len: i32) -> impl Strategy<Value = Point> {
    (0..batch, 0..heads, 0..q_len, 0..kv_len).prop_map(|(b, h, q, kv)| Point { b, h, q, kv })
}

/// Points mostly near the origin, sometimes negative or at the edges of i32.
pub fn points() -> impl Strategy<Value = Point> {
    let position = || {
        prop_oneof![
            24 => 0..24i32,
            4 => -4..300i32,
            1 => any::<i32>(),
            1 => prop::sample::select(vec![i32::MIN, i32::MIN + 1, -1, i32::MAX]),
        ]
    };
    let small = || prop_oneof![12 => 0..5i32, 1 => -2..40i32];
    (small(), small(), position(), position()).prop_map(|(b, h, q, kv)| Point { b, h, q, kv })
}

/// Scores: mostly what attention makes, sometimes zeros of both signs, infinities and NaN.
pub fn scores() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => -8.0..8.0f32,
        1 => any::<f32>(),
        1 => prop::sample::select(vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
    ]
}
