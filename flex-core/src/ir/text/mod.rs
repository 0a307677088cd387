//! The textual form of expressions, for tests and for people. What is printed parses back to an equal expression.
//!
//! ```text
//! // Keys of the query's document, and not after it.
//! capture @0 = doc: View<i32, 1>
//! v0 = q
//! v1 = kv
//! v2 = load @0[v0]
//! v3 = load @0[v1]
//! v4 = eq v2, v3
//! v5 = ge v0, v1
//! v6 = false
//! v7 = select v4, v5, v6
//! return v7
//! ```
//! One node a line, numbered from 0, operands first; `//` begins a comment. A node is one of
//!
//! | | |
//! |---|---|
//! | `b` `h` `q` `kv` `score` | an input |
//! | `true` `-5i32` `7u32` `0.5f32` `inff32` `nan:7fc00000f32` | a constant; a NaN is written by its bits |
//! | `@0` | a captured scalar |
//! | `len @0, 1` | the length of axis 1 of a captured view |
//! | `load @0[v1, v2]` | an element |
//! | `neg v0` … | an operation on one value, by [`UnaryOp::name`](super::UnaryOp::name) |
//! | `add v0, v1` … | an operation on two values, by [`BinaryOp::name`](super::BinaryOp::name) |
//! | `select v0, v1, v2` | `if v0 { v1 } else { v2 }` |
//! | `cast f32 v0` | `v0 as f32` |
//! | `after v0, v1` | evaluates `v0` for its faults, has the value of `v1` |
//!
//! A captured scalar is declared as `capture @0 = name: f32`. A name that is not an identifier is quoted.

mod names;
mod parse;
mod print;

pub use parse::{ParseError, ParseErrorKind};
