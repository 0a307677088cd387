//! The symbolic derivatives against the gradients of the golden cases: with d(score mod)/d(score) from the derivative
//! analysis, the textbook backward pass gives PyTorch's dq, and the derivatives by captures give its dcap.

mod support;

use std::collections::HashMap;

use flex_core::analysis::derivative::{Gradients, by_score};
use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::capture::Capture;
use flex_core::ir::semantics::Value;
use flex_core::ir::{Expr, NodeId};
use flex_core::mods::BoundExpr;
use safetensors::SafeTensors;
use support::golden::Golden;
use support::relative_error;

/// What the float64 gradients of the file were rounded to.
const F32_ROUNDING: f64 = 2e-6;

/// d(loss)/d(modified score) of every element that the mask keeps, with the score before the mod.
struct Backward {
    elements: Vec<(Point, f64, f64)>,
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let (chunks, _) = file.tensor(name).ok()?.data().as_chunks();
    Some(chunks.iter().map(|&word| f32::from_le_bytes(word)).collect())
}

fn halves(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let tensor = file.tensor(name).expect("an input");
    let (chunks, _) = tensor.data().as_chunks();
    chunks.iter().map(|&word| half::bf16::from_le_bytes(word).to_f64()).collect()
}

/// A node of an arena as an expression of its own, bound to the mod's captures.
fn bound_at(arena: &Expr, root: NodeId, captures: &[Capture]) -> BoundExpr {
    BoundExpr::new("derivative", arena.rooted_at(root), captures.to_vec()).expect("the mod's own captures")
}

fn backward(golden: &Golden, file: &SafeTensors<'_>, score_mod: &BoundExpr) -> Backward {
    let [_, heads, q_len, head_dim] = golden.query.shape();
    let [batch, kv_heads, kv_len, value_dim] = golden.value.shape();
    let [q, k, v, dout] = ["q", "k", "v", "dout"].map(|name| halves(file, name));
    let mut forward = Interpreter::<f64>::new(score_mod);
    let mut elements = Vec::new();
    for b in 0..batch {
        for h in 0..heads {
            let kv_row = (b * kv_heads + h / (heads / kv_heads)) * kv_len;
            for query in 0..q_len {
                let q_row = (b * heads + h) * q_len + query;
                let mut row = Vec::new();
                for key in 0..kv_len {
                    if golden.mask.as_ref().is_some_and(|mask| !mask.keeps([b, h, query, key])) {
                        continue;
                    }
                    let dot: f64 = (0..head_dim)
                        .map(|d| q[q_row * head_dim + d] * k[(kv_row + key) * head_dim + d])
                        .sum();
                    let d_weight: f64 = (0..value_dim)
                        .map(|d| dout[q_row * value_dim + d] * v[(kv_row + key) * value_dim + d])
                        .sum();
                    let point = Point { b: b as i32, h: h as i32, q: query as i32, kv: key as i32 };
                    let score = dot * f64::from(golden.scale);
                    let modified = forward.evaluate(point, score).expect("goldens do not fault").real();
                    row.push((point, score, modified, d_weight));
                }
                let max = row.iter().map(|e| e.2).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|e| (e.2 - max).exp()).sum();
                let delta: f64 = row.iter().map(|e| (e.2 - max).exp() / sum * e.3).sum();
                elements.extend(row.iter().map(|&(point, score, modified, d_weight)| {
                    (point, score, (modified - max).exp() / sum * (d_weight - delta))
                }));
            }
        }
    }
    Backward { elements }
}

#[test]
fn derivatives_by_the_score_give_the_gradient_of_query() {
    let mut checked = 0;
    for name in Golden::names() {
        let bytes = Golden::read(&name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let golden = Golden::load(&name);
        let (Some(score_mod), Some(expected)) = (&golden.score_mod, floats(&file, "dq")) else { continue };
        let bound = score_mod.bound();
        let derivative =
            BoundExpr::new("derivative", by_score(bound.expr()), bound.captures().to_vec()).unwrap();
        let mut derivative = Interpreter::<f64>::new(&derivative);

        let [_, heads, q_len, head_dim] = golden.query.shape();
        let [_, kv_heads, kv_len, _] = golden.key.shape();
        let k = halves(&file, "k");
        let mut dq = vec![0f64; expected.len()];
        for (point, score, d_modified) in backward(&golden, &file, bound).elements {
            let slope = derivative.evaluate(point, score).unwrap().real();
            let d_dot = d_modified * slope * f64::from(golden.scale);
            let [b, h, query, key] = [point.b, point.h, point.q, point.kv].map(|i| i as usize);
            let q_row = (b * heads + h) * q_len + query;
            let k_row = (b * kv_heads + h / (heads / kv_heads)) * kv_len + key;
            for d in 0..head_dim {
                dq[q_row * head_dim + d] += d_dot * k[k_row * head_dim + d];
            }
        }
        let dq: Vec<f32> = dq.into_iter().map(|x| x as f32).collect();
        let error = relative_error(&dq, &expected);
        assert!(error <= F32_ROUNDING, "{name}: dq has error {error:e}");
        checked += 1;
    }
    assert!(checked >= 15, "only {checked} goldens have a score mod");
}

#[test]
fn derivatives_by_captures_give_their_gradients() {
    let mut checked = 0;
    for name in Golden::names() {
        let bytes = Golden::read(&name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let golden = Golden::load(&name);
        let Some(score_mod) = &golden.score_mod else { continue };
        let bound = score_mod.bound();
        let with_gradient: Vec<&Capture> =
            bound.captures().iter().filter(|c| file.tensor(&format!("dcap.{}", c.name)).is_ok()).collect();
        if with_gradient.is_empty() {
            continue;
        }
        let elements = backward(&golden, &file, bound).elements;
        let gradients = Gradients::of(bound.expr());
        let at = |node| bound_at(gradients.arena(), node, bound.captures());
        // What was added, and its magnitude: a bias that is constant on a row has gradient 0, the sum of large terms.
        let mut computed: HashMap<String, Vec<(f64, f64)>> = HashMap::new();
        let add = |sum: &mut (f64, f64), term: f64| {
            sum.0 += term;
            sum.1 += term.abs();
        };
        for capture in &with_gradient {
            let count = capture.array().map_or(1, |array| array.len());
            computed.insert(capture.name.clone(), vec![(0.0, 0.0); count]);
        }
        for gradient in gradients.scalars() {
            let derivative = at(gradient.derivative);
            let mut derivative = Interpreter::<f64>::new(&derivative);
            let Some(sum) = computed.get_mut(&bound.captures()[gradient.capture.index()].name) else {
                continue;
            };
            for &(point, score, d_modified) in &elements {
                add(&mut sum[0], d_modified * derivative.evaluate(point, score).unwrap().real());
            }
        }
        for gradient in gradients.loads() {
            let capture = &bound.captures()[gradient.capture.index()];
            let Some(sums) = computed.get_mut(&capture.name) else { continue };
            let shape = capture.array().expect("loads are of arrays").shape();
            let derivative = at(gradient.derivative);
            let mut derivative = Interpreter::<f64>::new(&derivative);
            let indices: Vec<BoundExpr> = gradient.indices.iter().map(|&node| at(node)).collect();
            let mut indices: Vec<_> = indices.iter().map(Interpreter::<f64>::new).collect();
            for &(point, score, d_modified) in &elements {
                let offset = indices.iter_mut().zip(shape).fold(0, |offset, (index, len)| {
                    offset * len + index.evaluate(point, score).map(Value::integer).unwrap() as usize
                });
                add(&mut sums[offset], d_modified * derivative.evaluate(point, score).unwrap().real());
            }
        }
        for (capture, computed) in computed {
            let expected = floats(&file, &format!("dcap.{capture}")).unwrap();
            let distance = |(&(sum, _), &expected): (&(f64, f64), &f32)| (sum - f64::from(expected)).powi(2);
            let error: f64 = computed.iter().zip(&expected).map(distance).sum::<f64>().sqrt();
            let error = error / computed.iter().map(|(_, magnitude)| magnitude.powi(2)).sum::<f64>().sqrt();
            assert!(error <= F32_ROUNDING, "{name}: dcap.{capture} has error {error:e}");
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} captures have a gradient");
}
