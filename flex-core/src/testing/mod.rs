//! Random well-typed expressions with their captures, for differential and soundness tests of everything that reads an
//! expression: analyses, the mask builder, the CPU backend, the code generator.
//!
//! ```ignore
//! proptest! {
//!     #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]
//!     #[test]
//!     fn holds(bound in testing::expressions(ExprConfig::mask()), at in testing::points()) {
//!         prop_assert_eq!(testing::outcome(&bound, at, 0.0), my_backend(&bound, at));
//!     }
//! }
//! ```

mod captures;
mod expression;
mod grow;
mod outcome;

pub use expression::{ExprConfig, Faults, expressions, masks, points, points_within, score_mods, scores};
pub use outcome::{Outcome, outcome};

/// How many cases a property test runs: `default`, times the environment variable `FLEX_TEST_SCALE` where it is set
/// (any positive number; 0.1 is a tenth, 100 is a long night). At least 1.
pub fn cases(default: u32) -> u32 {
    let scale = std::env::var("FLEX_TEST_SCALE").ok().and_then(|s| s.parse::<f64>().ok()).unwrap_or(1.0);
    ((f64::from(default) * scale) as u32).max(1)
}
