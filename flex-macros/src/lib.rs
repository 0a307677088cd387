//! The macros of flex-attention: `#[mask_mod]`, `#[score_mod]`, `#[mod_fn]`, `mask_mod!` and `score_mod!`.
//!
//! Use them through `flex_attention::prelude`. Each goes the same way: `parse` turns Rust into a small tree with all
//! names resolved, `check` finds the types, `lower` makes the code that builds the expression, `expand` puts it
//! beside the user's function. Mistakes are collected on the way and reported together.

mod ast;
mod check;
mod diagnostics;
mod expand;
mod lower;
mod parse;
mod types;

use parse::Kind;
use proc_macro::TokenStream;

/// Makes a function a mask mod.
///
/// The function takes `b, h, q, kv: i32` and what it captures, and returns whether query `q` sees key `kv`. It stays
/// callable as plain Rust; beside it, `name::bind(captures...)` makes the mask.
#[proc_macro_attribute]
pub fn mask_mod(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::function(Kind::Mask, attribute.into(), item.into()).into()
}

/// Makes a function a score mod.
///
/// The function takes `score: f32`, `b, h, q, kv: i32` and what it captures, and returns the new score. It stays
/// callable as plain Rust; beside it, `name::bind(captures...)` makes the score mod.
#[proc_macro_attribute]
pub fn score_mod(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::function(Kind::Score, attribute.into(), item.into()).into()
}

/// Makes a function callable from mods. It takes f32, i32, u32, bool and views of these, and returns a scalar.
#[proc_macro_attribute]
pub fn mod_fn(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::function(Kind::Function, attribute.into(), item.into()).into()
}

/// A mask mod from a closure: `mask_mod!(|b, h, q, kv| q - kv <= window)`.
///
/// Free names are captured: indexed ones as arrays, the others as scalars. Names in capitals are constants. The value
/// is the bound mask.
#[proc_macro]
pub fn mask_mod_closure(input: TokenStream) -> TokenStream {
    expand::closure(Kind::Mask, input.into()).into()
}

/// A score mod from a closure: `score_mod!(|score, b, h, q, kv| score + slope[h] * (kv - q) as f32)`.
///
/// Free names are captured: indexed ones as arrays, the others as scalars. Names in capitals are constants. The value
/// is the bound score mod.
#[proc_macro]
pub fn score_mod_closure(input: TokenStream) -> TokenStream {
    expand::closure(Kind::Score, input.into()).into()
}

#[cfg(test)]
mod tests;
