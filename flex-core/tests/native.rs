//! Rust closures against the expressions that they mean, over grids.
