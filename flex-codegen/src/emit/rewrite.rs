//! A score mod as the kernel evaluates it: from the raw dot product to a multiple of the exponent of 2.
//!
//! score · exponent_scale = log₂e · score_mod(qk · scale). The captures are those of the mod and, last, the scale of the
//! launch. With [`Precision::Fast`] factors are folded into the factors that are there, those that change least often
//! first, and what is common to all scores becomes the exponent's scale, which the exponential applies for nothing.

use std::collections::HashMap;

use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::analysis::simplify::simplify;
use flex_core::analysis::variance::Inputs;
use flex_core::capture::{Capture, CaptureValue};
use flex_core::ir::semantics::Value;
use flex_core::ir::{
    BinaryOp, BuildError, Builder, CaptureId, Expr, Input, Node, NodeId, Scalar, Type, UnaryOp,
};
use flex_core::mods::BoundExpr;

use super::variance::{Level, inputs_of_node};
use crate::{Guards, Precision};

/// A rewritten score mod.
#[derive(Debug)]
pub(super) struct Exponent {
    pub(super) score: Expr,
    pub(super) scale: ExponentScale,
    /// Slope and offset of the line in the key that the score is, beside `qk`.
    pub(super) key_line: Option<(Expr, Expr)>,
}

/// What turns scores into exponents of 2; above 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ExponentScale {
    /// A constant.
    Constant(f32),
    /// The scale of the launch, times log₂e.
    Launch,
    /// Something of the captures alone, with those of the score and as one of them the scale.
    Captured(Box<Expr>),
}

/// Rewrites a score mod; without `with_factor`, exponents only have a scale where they are small.
pub(super) fn to_exponent(
    expr: &Expr,
    precision: Precision,
    guards: Guards,
    with_factor: bool,
) -> Result<Exponent, BuildError> {
    let mut builder = Builder::with_captures(expr.captures());
    let scale = builder.declare("scale", Type::F32, 0);
    let mut rewrite = Rewrite { builder, precision, guards, inputs: Vec::new(), scaled: HashMap::new() };
    let (qk, scale) = (rewrite.builder.input(Input::Score), rewrite.builder.capture(scale));
    let score = rewrite.product(scale, qk);
    let mut moved: Vec<NodeId> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let id = match *node {
            Node::Input(Input::Score) => score,
            other => rewrite.node(other.map_operands(|id| moved[id.index()])),
        };
        moved.push(id);
    }
    let root = moved[expr.root().index()];
    // Where nothing faults and the scale is positive (which is part of the proof), qk + rest / scale.
    if let Some(rest) =
        rewrite.rest_beside(score, root).filter(|_| precision == Precision::Fast && guards == Guards::Proved)
    {
        let line = rewrite.line_in_key(rest);
        if line.is_some() || with_factor {
            let one = rewrite.builder.constant(1.0f32);
            let unscale = rewrite.builder.binary(BinaryOp::Div, one, scale);
            let key_line = match line {
                Some(Line { slope, offset }) => {
                    let zero = rewrite.builder.constant(0.0f32);
                    let parts = [slope.unwrap_or(zero), offset.unwrap_or(zero)];
                    let [slope, offset] = parts.map(|part| rewrite.product(unscale, part));
                    Some((rewrite.builder.clone().finish(slope)?, rewrite.builder.clone().finish(offset)?))
                }
                None => None,
            };
            let rest = rewrite.times(rest, unscale);
            let root = rewrite.builder.binary(BinaryOp::Add, qk, rest);
            let score = rewrite.builder.finish(root)?;
            return Ok(Exponent { score, scale: ExponentScale::Launch, key_line });
        }
    }
    let log2_e = rewrite.builder.constant(std::f32::consts::LOG2_E);
    let mut root = rewrite.times(root, log2_e);
    let mut exponent_scale = ExponentScale::Constant(1.0);
    if let Node::Binary(BinaryOp::Mul, a, b) = rewrite.get(root)
        && precision == Precision::Fast
        && (with_factor
            || matches!(rewrite.get(b), Node::Unary(UnaryOp::Tanh | UnaryOp::Sin | UnaryOp::Cos, _)))
    {
        match rewrite.constant(a) {
            Some(factor) if is_factor(factor) => {
                (exponent_scale, root) = (ExponentScale::Constant(factor), b);
            }
            // Proved to be one, see `captured_factor`.
            None if guards == Guards::Proved && rewrite.is_of_captures(a, scale) => {
                let factor = rewrite.builder.clone().finish(a)?;
                (exponent_scale, root) = (ExponentScale::Captured(Box::new(factor)), b);
            }
            _ => {}
        }
    }
    let score = rewrite.builder.finish(root)?;
    Ok(Exponent { score, scale: exponent_scale, key_line: None })
}

/// The factor of captures that [`to_exponent`] takes out of a score, for the captures that the mod is bound to; `None` if
/// there is none.
pub(super) fn captured_factor(score: &BoundExpr) -> Option<f32> {
    let exponent = to_exponent(&simplify(score.expr()), Precision::Fast, Guards::Proved, true).ok()?;
    let ExponentScale::Captured(factor) = exponent.scale else { return None };
    let mut captures = score.captures().to_vec();
    captures.push(Capture { name: "scale".into(), value: CaptureValue::Scalar(Scalar::F32(1.0)) });
    let factor = BoundExpr::new("factor", *factor, captures).ok()?;
    let anywhere = Point { b: 0, h: 0, q: 0, kv: 0 };
    // What cannot be computed is not positive.
    Some(Interpreter::<f32>::new(&factor).evaluate(anywhere, 0.0).map_or(f32::NAN, Value::real))
}

/// Whether a number may leave a score as a factor: positive, and so small that what is at most 1 has a small exponent.
pub(super) fn is_factor(factor: f32) -> bool {
    factor.is_normal() && factor > 0.0 && factor <= (1 << 24) as f32
}

/// `slope · key + offset`, both of the row; `None` is zero.
#[derive(Clone, Copy, Default)]
struct Line {
    slope: Option<NodeId>,
    offset: Option<NodeId>,
}

struct Rewrite {
    builder: Builder,
    precision: Precision,
    guards: Guards,
    /// Of the nodes asked for so far; nodes are only ever added.
    inputs: Vec<Inputs>,
    /// What [`Self::times`] has made of which node, the factor being always the same.
    scaled: HashMap<NodeId, NodeId>,
}

impl Rewrite {
    fn fast(&self) -> bool {
        self.precision == Precision::Fast
    }

    fn get(&self, id: NodeId) -> Node {
        *self.builder.node(id).expect("ids come from this builder")
    }

    fn level(&mut self, id: NodeId) -> Level {
        for i in self.inputs.len()..=id.index() {
            let node = self.get(NodeId(i as u32));
            let inputs = inputs_of_node(&node, |operand| self.inputs[operand.index()]);
            self.inputs.push(inputs);
        }
        Level::of(self.inputs[id.index()])
    }

    /// Adds a node of the mod, in a cheaper form where there is one.
    fn node(&mut self, node: Node) -> NodeId {
        match node {
            Node::Binary(BinaryOp::Mul, a, b) if self.builder.ty(a) == Type::F32 => self.product(a, b),
            Node::Binary(BinaryOp::Div, a, b) if self.fast() && self.builder.ty(a) == Type::F32 => {
                self.quotient(a, b)
            }
            Node::Cast(Type::F32, x) if self.fast() && self.guards == Guards::Proved => self.distance(x),
            other => self.copy(other),
        }
    }

    fn copy(&mut self, node: Node) -> NodeId {
        let b = &mut self.builder;
        match node {
            Node::Const(value) => b.constant(value),
            Node::Input(input) => b.input(input),
            Node::Capture(id) => b.capture(id),
            Node::Extent(id, axis) => b.extent(id, axis),
            Node::Load(id, indices) => b.load(id, indices.as_slice()),
            Node::Unary(op, x) => b.unary(op, x),
            Node::Binary(op, x, y) => b.binary(op, x, y),
            Node::Select { condition, accept, reject } => b.select(condition, accept, reject),
            Node::Cast(ty, x) => b.cast(ty, x),
            Node::After { first, then } => b.after(first, then),
        }
    }

    /// `a · b`; when fast, with the factor that changes less often joined to another such factor.
    fn product(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if !self.fast() {
            return self.builder.binary(BinaryOp::Mul, a, b);
        }
        if let (Some(x), Some(y)) = (self.constant(a), self.constant(b)) {
            return self.builder.constant(x * y);
        }
        if self.constant(a) == Some(1.0) {
            return b;
        }
        if self.constant(b) == Some(1.0) {
            return a;
        }
        let (rare, often) = if self.level(a) <= self.level(b) { (a, b) } else { (b, a) };
        if let Node::Binary(BinaryOp::Mul, x, y) = self.get(often) {
            let (inner, rest) = if self.level(x) <= self.level(y) { (x, y) } else { (y, x) };
            if self.level(inner) < self.level(rest) && self.level(rare) < self.level(rest) {
                let joined = self.product(rare, inner);
                return self.product(joined, rest);
            }
        }
        self.builder.binary(BinaryOp::Mul, rare, often)
    }

    /// `a / b`; by way of the reciprocal where that is computed less often.
    fn quotient(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if self.level(b) >= self.level(a) {
            return self.builder.binary(BinaryOp::Div, a, b);
        }
        let reciprocal = match self.constant(b) {
            Some(b) if (1.0 / b).is_normal() => self.builder.constant(1.0 / b),
            Some(_) => return self.builder.binary(BinaryOp::Div, a, b),
            None => {
                let one = self.builder.constant(1.0f32);
                self.builder.binary(BinaryOp::Div, one, b)
            }
        };
        self.product(reciprocal, a)
    }

    /// `x as f32`; for the distance of two positions, which f32 holds exactly, from their conversions, which are not
    /// computed an element.
    fn distance(&mut self, x: NodeId) -> NodeId {
        match self.get(x) {
            Node::Unary(UnaryOp::Abs, inner) if self.is_distance(inner) => {
                let distance = self.distance(inner);
                self.builder.unary(UnaryOp::Abs, distance)
            }
            Node::Binary(BinaryOp::Sub, a, b) if self.is_distance(x) => {
                let (a, b) = (self.builder.cast(Type::F32, a), self.builder.cast(Type::F32, b));
                self.builder.binary(BinaryOp::Sub, a, b)
            }
            _ => self.builder.cast(Type::F32, x),
        }
    }

    fn is_distance(&self, x: NodeId) -> bool {
        let position = |id| matches!(self.get(id), Node::Input(Input::Query | Input::Key));
        matches!(self.get(x), Node::Binary(BinaryOp::Sub, a, b) if position(a) && position(b))
    }

    /// Whether a value is the same for the whole launch, whatever the scale.
    fn is_of_captures(&mut self, id: NodeId, scale: NodeId) -> bool {
        let mut operands_are = id != scale && self.level(id) == Level::Launch;
        let node = self.get(id);
        node.for_each_operand(|operand| operands_are = operands_are && self.is_of_captures(operand, scale));
        operands_are
    }

    fn constant(&self, id: NodeId) -> Option<f32> {
        self.builder.as_const(id).and_then(|value| value.as_f32())
    }

    /// `x · factor`; when fast, with the factor moved to where it costs least.
    fn times(&mut self, x: NodeId, factor: NodeId) -> NodeId {
        if let Some(&known) = self.scaled.get(&x) {
            return known;
        }
        let scaled = if !self.fast() || self.level(x) < Level::Element {
            self.product(factor, x)
        } else {
            match self.get(x) {
                Node::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                    let (a, b) = (self.times(a, factor), self.times(b, factor));
                    self.builder.binary(op, a, b)
                }
                Node::Unary(UnaryOp::Neg, a) => {
                    let a = self.times(a, factor);
                    self.builder.unary(UnaryOp::Neg, a)
                }
                Node::Select { condition, accept, reject } => {
                    let (accept, reject) = (self.times(accept, factor), self.times(reject, factor));
                    self.builder.select(condition, accept, reject)
                }
                Node::After { first, then } => {
                    let then = self.times(then, factor);
                    self.builder.after(first, then)
                }
                _ => self.product(factor, x),
            }
        };
        self.scaled.insert(x, scaled);
        scaled
    }

    /// What is added to the score, if the mod is such a sum and the rest does not depend on the score.
    fn rest_beside(&mut self, score: NodeId, root: NodeId) -> Option<NodeId> {
        let rest = match self.get(root) {
            Node::Binary(BinaryOp::Add, a, b) if a == score => b,
            Node::Binary(BinaryOp::Add, a, b) if b == score => a,
            Node::Binary(BinaryOp::Sub, a, b) if a == score => self.builder.unary(UnaryOp::Neg, b),
            _ => return None,
        };
        self.level(rest);
        (!self.inputs[rest.index()].contains(Input::Score)).then_some(rest)
    }

    /// Slope and offset of a value that is a line in the key.
    fn line_in_key(&mut self, x: NodeId) -> Option<Line> {
        if self.level(x) <= Level::Row {
            return Some(Line { slope: None, offset: Some(x) });
        }
        match self.get(x) {
            Node::Cast(Type::F32, key) if self.get(key) == Node::Input(Input::Key) => {
                Some(Line { slope: Some(self.builder.constant(1.0f32)), offset: None })
            }
            Node::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                let (a, b) = (self.line_in_key(a)?, self.line_in_key(b)?);
                let mut join = |a, b| match (a, b) {
                    (a, None) => a,
                    (None, Some(b)) if op == BinaryOp::Sub => Some(self.builder.unary(UnaryOp::Neg, b)),
                    (None, b) => b,
                    (Some(a), Some(b)) => Some(self.builder.binary(op, a, b)),
                };
                Some(Line { slope: join(a.slope, b.slope), offset: join(a.offset, b.offset) })
            }
            Node::Unary(UnaryOp::Neg, a) => {
                let line = self.line_in_key(a)?;
                let mut negate = |part: Option<NodeId>| part.map(|id| self.builder.unary(UnaryOp::Neg, id));
                Some(Line { slope: negate(line.slope), offset: negate(line.offset) })
            }
            Node::Binary(BinaryOp::Mul, a, b) => {
                let (factor, other) = if self.level(a) <= Level::Row { (a, b) } else { (b, a) };
                if self.level(factor) > Level::Row {
                    return None;
                }
                let line = self.line_in_key(other)?;
                let mut multiply =
                    |part: Option<NodeId>| part.map(|id| self.builder.binary(BinaryOp::Mul, factor, id));
                Some(Line { slope: multiply(line.slope), offset: multiply(line.offset) })
            }
            _ => None,
        }
    }
}

/// The capture that stands for the scale of the launch in an expression of [`to_exponent`].
pub(super) fn scale_of(expr: &Expr) -> CaptureId {
    CaptureId(expr.captures().len() as u32 - 1)
}

#[cfg(test)]
mod tests {
    use flex_core::capture::IntoArray;

    use super::*;

    const SCALE: f32 = 0.125;

    fn captures() -> Vec<Capture> {
        let array = |name: &str, values: &[f32]| Capture {
            name: name.into(),
            value: CaptureValue::Array(values.into_array()),
        };
        vec![array("slope", &[0.3, 0.7]), array("bias", &[0.1, -0.4, 2.0, 1.5, -3.0, 0.2, 0.9, -0.6])]
    }

    const HEAD: &str = "capture @0 = slope: View<f32, 1>\ncapture @1 = bias: View<f32, 1>\nv0 = score\nv1 = h\nv2 = load @0[v1]\n";

    /// Mods over both captures, and whether they are lines in the key.
    const MODS: &[(&str, bool)] = &[
        (
            "v3 = q\nv4 = kv\nv5 = sub v4, v3\nv6 = cast f32 v5\nv7 = mul v2, v6\nv8 = add v0, v7\nreturn v8",
            true,
        ),
        (
            "v3 = q\nv4 = kv\nv5 = sub v3, v4\nv6 = abs v5\nv7 = cast f32 v6\nv8 = mul v7, v2\nv9 = sub v0, v8\nreturn v9",
            false,
        ),
        (
            "v3 = q\nv4 = kv\nv5 = sub v3, v4\nv6 = cast f32 v5\nv7 = mul v6, v2\nv8 = sub v0, v7\nreturn v8",
            true,
        ),
        ("v3 = kv\nv4 = load @1[v3]\nv5 = mul v4, v2\nv6 = add v5, v0\nreturn v6", false),
        ("v3 = 20.0f32\nv4 = div v0, v3\nv5 = tanh v4\nv6 = mul v3, v5\nv7 = mul v6, v2\nreturn v7", false),
        (
            "v3 = kv\nv4 = q\nv5 = ge v4, v3\nv6 = mul v0, v2\nv7 = neg v6\nv8 = select v5, v7, v0\nv9 = div v8, v2\nreturn v9",
            false,
        ),
        ("v3 = mul v0, v0\nv4 = mul v3, v2\nv5 = sub v4, v0\nreturn v5", false),
        ("v3 = add v0, v2\nreturn v3", true),
    ];

    fn evaluate(bound: &BoundExpr, at: Point, score: f64) -> f64 {
        Interpreter::<f64>::new(bound).evaluate(at, score).unwrap().real()
    }

    #[test]
    fn factors_of_captures_leave_the_score() {
        let text = "capture @0 = cap: f32\nv0 = score\nv1 = @0\nv2 = div v0, v1\nv3 = tanh v2\nv4 = mul v1, v3\nreturn v4";
        let value = |x: f32| CaptureValue::Scalar(Scalar::F32(x));
        let capture = |name: &str, x: f32| Capture { name: name.into(), value: value(x) };
        let softcap = BoundExpr::new("softcap", text.parse().unwrap(), vec![capture("cap", 20.0)]).unwrap();
        let factor = captured_factor(&softcap).unwrap();
        assert_eq!(factor, 20.0 * std::f32::consts::LOG2_E);
        let exponent = to_exponent(softcap.expr(), Precision::Fast, Guards::Proved, true).unwrap();
        assert!(matches!(exponent.scale, ExponentScale::Captured(_)));
        let captures = vec![capture("cap", 20.0), capture("scale", SCALE)];
        let score = BoundExpr::new("score", exponent.score, captures).unwrap();
        let (at, qk) = (Point { b: 0, h: 0, q: 0, kv: 0 }, 100.0);
        let expected = std::f64::consts::LOG2_E * evaluate(&softcap, at, qk * f64::from(SCALE));
        let got = f64::from(factor) * evaluate(&score, at, qk);
        assert!((got - expected).abs() <= 1e-6 * expected, "{got}, expected {expected}");
        for other in [Guards::Guarded, Guards::Proved] {
            let precise = to_exponent(softcap.expr(), Precision::Accurate, other, true).unwrap();
            assert_eq!(precise.scale, ExponentScale::Constant(1.0));
        }
    }

    #[test]
    fn the_exponent_is_the_mod_of_the_scaled_product() {
        for &(text, is_line) in MODS {
            let expr: Expr = format!("{HEAD}{text}").parse().unwrap();
            let original = BoundExpr::new("original", expr.clone(), captures()).unwrap();
            let mut with_scale = captures();
            with_scale
                .push(Capture { name: "scale".into(), value: CaptureValue::Scalar(Scalar::F32(SCALE)) });
            let bind = |expr: Expr| BoundExpr::new("exponent", expr, with_scale.clone()).unwrap();
            for precision in [Precision::Fast, Precision::Accurate] {
                for guards in [Guards::Proved, Guards::Guarded] {
                    let exponent = to_exponent(&expr, precision, guards, true).unwrap();
                    let scale = match exponent.scale {
                        ExponentScale::Constant(factor) => factor,
                        ExponentScale::Launch => SCALE * std::f32::consts::LOG2_E,
                        ExponentScale::Captured(_) => captured_factor(&original).unwrap(),
                    };
                    let line = exponent.key_line.map(|(slope, offset)| (bind(slope), bind(offset)));
                    assert_eq!(
                        line.is_some(),
                        is_line && precision == Precision::Fast && guards == Guards::Proved,
                        "{text}"
                    );
                    let score = bind(exponent.score);
                    for (h, q, kv) in [(0, 3, 5), (1, 7, 2), (1, 0, 0), (0, 4, 7)] {
                        let (at, qk) = (Point { b: 0, h, q, kv }, 3.75);
                        let expected =
                            std::f64::consts::LOG2_E * evaluate(&original, at, qk * f64::from(SCALE));
                        let got = f64::from(scale) * evaluate(&score, at, qk);
                        assert!(
                            (got - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                            "{text} at {at:?}: {got}, expected {expected}"
                        );
                        if let Some((slope, offset)) = &line {
                            let spread =
                                qk + evaluate(slope, at, 0.0) * f64::from(kv) + evaluate(offset, at, 0.0);
                            let got = f64::from(scale) * spread;
                            assert!(
                                (got - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                                "{text} at {at:?}: line {got}, expected {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
