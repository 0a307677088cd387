use proptest::prelude::*;

use super::simplify;
use crate::ir::{Builder, CaptureId, Expr, Input, Node, NodeId, Type, verify};
use crate::mods::BoundExpr;
use crate::testing::{self, ExprConfig};

/// Ten times the other tests' share: every rule answers to this one.
const CASES: u32 = 50_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(CASES)))]

    #[test]
    fn the_outcome_is_the_same_everywhere(
        bound in prop_oneof![
            testing::expressions(ExprConfig::score()),
            testing::expressions(ExprConfig::mask()),
            testing::expressions(ExprConfig { result: Type::I32, ..ExprConfig::mask() }),
            testing::expressions(ExprConfig { result: Type::I32, ..ExprConfig::mask() }.without_faults()),
            testing::expressions(ExprConfig { result: Type::U32, ..ExprConfig::mask() }.without_faults()),
        ],
        at in prop::collection::vec((testing::points(), testing::scores()), 4),
    ) {
        let simple = simplify(bound.expr());
        prop_assert_eq!(verify(&simple), Ok(()));
        let simple = BoundExpr::new("simple", simple, bound.captures().to_vec()).unwrap();
        for (point, score) in at {
            prop_assert_eq!(
                testing::outcome(&simple, point, score),
                testing::outcome(&bound, point, score),
                "{}became\n{}", bound.expr(), simple.expr()
            );
        }
    }
}

/// A long chain, as unrolled loops make them: no rule recurses over its length or takes quadratic time.
fn chain(step: impl Fn(&mut Builder, CaptureId, NodeId, i32) -> NodeId) -> Expr {
    let mut b = Builder::new();
    let table = b.declare("table", Type::I32, 1);
    let mut sum = b.input(Input::Query);
    for i in 0..25_000 {
        sum = step(&mut b, table, sum, i);
    }
    b.finish(sum).unwrap()
}

fn load(b: &mut Builder, table: CaptureId, i: i32) -> NodeId {
    let index = b.constant(i);
    b.load(table, &[index])
}

#[test]
fn long_chains_neither_overflow_the_stack_nor_take_long() {
    use crate::ir::BinaryOp::*;
    let chains = [
        chain(|b, table, sum, i| {
            let x = load(b, table, i);
            b.binary(Add, sum, x)
        }),
        chain(|b, _, sum, i| {
            let (kv, i) = (b.input(Input::Key), b.constant(i));
            let x = b.binary(Rem, kv, i);
            let x = b.binary(Or, x, sum);
            let y = b.binary(Mul, x, kv);
            b.binary(Sub, y, sum)
        }),
        // `let _ = table[i];` before each step: raw, so that nothing is dropped on the way.
        chain(|b, table, sum, i| {
            let (first, kv) = (load(b, table, i), b.input(Input::Key));
            let then = b.binary(Xor, sum, kv);
            b.add(Node::After { first, then })
        }),
        chain(|b, table, sum, i| {
            let (x, zero) = (load(b, table, i), b.constant(0));
            let hit = b.binary(Eq, x, zero);
            b.select(hit, sum, x)
        }),
        chain(|b, table, sum, i| {
            let (x, zero) = (load(b, table, i), b.constant(0));
            let (hit, nothing) = (b.binary(Eq, x, zero), b.binary(Mul, sum, zero));
            b.select(hit, nothing, sum)
        }),
    ];
    let begin = std::time::Instant::now();
    for expr in &chains {
        assert!(expr.nodes().len() > 75_000);
        verify(&simplify(expr)).unwrap();
    }
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}
