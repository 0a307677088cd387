//! Unrolled loops make expressions of a hundred thousand nodes: nothing may recurse over them.

use flex_core::analysis::affine::AffineForms;
use flex_core::analysis::demand::Demand;
use flex_core::analysis::derivative::by_score;
use flex_core::analysis::simplify::simplify;
use flex_core::analysis::variance::{Inputs, Variance};
use flex_core::ir::{BinaryOp, Builder, Expr, Input, Type, verify};

/// `for i in 0..n { if table[i] > sum { sum = sum * score + table[i] } }`
fn unrolled(n: i32) -> Expr {
    let mut b = Builder::new();
    let table = b.declare("table", Type::F32, 1);
    let score = b.input(Input::Score);
    let mut sum = b.constant(0.0f32);
    for i in 0..n {
        let index = b.constant(i);
        let x = b.load(table, &[index]);
        let above = b.binary(BinaryOp::Gt, x, sum);
        let product = b.binary(BinaryOp::Mul, sum, score);
        let next = b.binary(BinaryOp::Add, product, x);
        sum = b.select(above, next, sum);
    }
    b.finish(sum).unwrap()
}

#[test]
fn every_analysis_takes_a_hundred_thousand_nodes() {
    let expr = unrolled(17_000);
    assert!(expr.nodes().len() > 100_000);
    verify(&expr).unwrap();
    assert_eq!(expr.to_string().parse::<Expr>().unwrap(), expr);
    assert_eq!(Variance::of(&expr).root(), Inputs::of(&[Input::Score]));
    assert!(AffineForms::of(&expr).get(expr.root()).is_none());
    assert_eq!(Demand::of(&expr).guards().len(), 17_000);
    verify(&simplify(&expr)).unwrap();
    verify(&by_score(&expr)).unwrap();
}
