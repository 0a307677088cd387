//! From a build function and captured values to a bound mod.

use flex_core::capture::{Capture, CaptureElement, CaptureValue, IntoArray, IntoScalar};
use flex_core::ir::{Arg, Builder, Expr, Input, NodeId};
use flex_core::mods::{BindError, MaskMod, ScoreMod};

use super::{Lowering, Signature};

pub fn bound_array<T: CaptureElement, const N: usize>(name: &str, array: impl IntoArray<T, N>) -> Capture {
    Capture { name: name.into(), value: CaptureValue::Array(array.into_array()) }
}

pub fn bound_scalar<T: CaptureElement>(name: &str, value: impl IntoScalar<T>) -> Capture {
    Capture { name: name.into(), value: CaptureValue::Scalar(value.into_scalar().into()) }
}

/// The inputs of masks; score mods take the score before them.
const INDICES: [Input; 4] = [Input::Batch, Input::Head, Input::Query, Input::Key];

/// # Errors
/// If the expression is not well-typed for these captures.
pub fn bind_mask(
    signature: &Signature,
    captures: Vec<Capture>,
    build: fn(&mut Builder, &[Arg], &()) -> NodeId,
) -> Result<MaskMod, BindError> {
    let expr =
        expression(signature.name, &INDICES, &captures, |builder, arguments| build(builder, arguments, &()))?;
    MaskMod::new(signature.name, expr, captures)
}

/// # Errors
/// If the expression is not well-typed for these captures.
pub fn bind_score(
    signature: &Signature,
    captures: Vec<Capture>,
    build: fn(&mut Builder, &[Arg], &()) -> NodeId,
) -> Result<ScoreMod, BindError> {
    let expr = expression(signature.name, &with_score(), &captures, |builder, arguments| {
        build(builder, arguments, &())
    })?;
    ScoreMod::new(signature.name, expr, captures)
}

/// The mask of a closure. rustc has checked its types, so it cannot fail.
pub fn mask_closure(
    name: &str,
    captures: Vec<Capture>,
    build: impl FnOnce(&mut Lowering<'_>) -> NodeId,
) -> MaskMod {
    expression(name, &INDICES, &captures, |builder, arguments| build(&mut Lowering::new(builder, arguments)))
        .and_then(|expr| MaskMod::new(name, expr, captures))
        .unwrap_or_else(|error| panic!("rustc has checked this mask mod: {error}"))
}

/// The score mod of a closure. rustc has checked its types, so it cannot fail.
pub fn score_closure(
    name: &str,
    captures: Vec<Capture>,
    build: impl FnOnce(&mut Lowering<'_>) -> NodeId,
) -> ScoreMod {
    expression(name, &with_score(), &captures, |builder, arguments| {
        build(&mut Lowering::new(builder, arguments))
    })
    .and_then(|expr| ScoreMod::new(name, expr, captures))
    .unwrap_or_else(|error| panic!("rustc has checked this score mod: {error}"))
}

fn with_score() -> [Input; 5] {
    let [b, h, q, kv] = INDICES;
    [Input::Score, b, h, q, kv]
}

fn expression(
    name: &str,
    inputs: &[Input],
    captures: &[Capture],
    build: impl FnOnce(&mut Builder, &[Arg]) -> NodeId,
) -> Result<Expr, BindError> {
    let mut builder = Builder::new();
    let mut arguments: Vec<Arg> = inputs.iter().map(|&input| builder.input(input).into()).collect();
    for capture in captures {
        let decl = capture.decl();
        let id = builder.declare(decl.name, decl.ty, decl.rank);
        arguments.push(if decl.rank == 0 { builder.capture(id).into() } else { id.into() });
    }
    let root = build(&mut builder, &arguments);
    builder.finish(root).map_err(|source| BindError::Build { name: name.into(), source })
}
