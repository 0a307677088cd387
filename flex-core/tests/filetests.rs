//! One behaviour a case: an expression, and what an analysis makes of it.
//!
//! Every file of `tests/filetests` is named after its analysis and holds cases of the form
//! ```text
//! ### what the case shows
//! the expression
//! =>
//! what is expected
//! ```
//! `FLEX_BLESS=1 cargo test -p flex-core --test filetests` writes what is there now as expected; read the diff.

use flex_core::analysis::demand::{Demand, Guard};
use flex_core::analysis::derivative::{Gradients, by_score};
use flex_core::analysis::simplify::simplify;
use flex_core::analysis::variance::Variance;
use flex_core::ir::{Expr, Node, verify};

fn run(analysis: fn(&Expr) -> String, file: &str) {
    let path = format!("{}/tests/filetests/{file}.ir", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut blessed = String::new();
    let mut failures = Vec::new();
    let (header, cases) = text.split_once("### ").expect("there are cases");
    blessed.push_str(header);
    for case in cases.split("\n### ") {
        let (title, body) = case.split_once('\n').expect("a case has a title line");
        let (input, expected) = body.split_once("=>\n").expect("a case has an expectation");
        let expr: Expr = input.parse().unwrap_or_else(|error| panic!("{file}: {title}: {error}"));
        verify(&expr).unwrap();
        let got = analysis(&expr);
        if got.trim_end() != expected.trim_end() {
            failures.push(format!("{title}: expected\n{}\ngot\n{got}", expected.trim_end()));
        }
        blessed.push_str(&format!("### {title}\n{input}=>\n{}\n\n", got.trim_end()));
    }
    if std::env::var_os("FLEX_BLESS").is_some() {
        std::fs::write(&path, format!("{}\n", blessed.trim_end())).unwrap();
    } else {
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

#[test]
fn simplified() {
    run(|expr| simplify(expr).to_string(), "simplify");
}

#[test]
fn derivatives() {
    run(|expr| by_score(expr).to_string(), "derivative");
}

#[test]
fn gradients() {
    run(
        |expr| {
            let gradients = Gradients::of(expr);
            let mut out = String::new();
            for scalar in gradients.scalars() {
                let derivative = gradients.arena().rooted_at(scalar.derivative);
                out += &format!("by {}:\n{derivative}", scalar.capture);
            }
            for load in gradients.loads() {
                let when = match load.guard {
                    Guard::Always => "always".into(),
                    Guard::When(condition) => format!("when\n{}", gradients.arena().rooted_at(condition)),
                };
                out += &format!("by an element of {}, {when}\n", load.capture);
                for &index in &load.indices {
                    out += &format!("at\n{}", gradients.arena().rooted_at(index));
                }
                out += &format!("is\n{}", gradients.arena().rooted_at(load.derivative));
            }
            out
        },
        "gradients",
    );
}

#[test]
fn variances() {
    run(
        |expr| {
            let variance = Variance::of(expr);
            let line = |id| format!("{id} {} {:?}\n", variance.inputs(id), variance.rate(id));
            expr.ids().filter(|&id| !matches!(expr.node(id), Node::Const(_))).map(line).collect()
        },
        "variance",
    );
}

#[test]
fn demands() {
    run(
        |expr| {
            let demand = Demand::of(expr);
            let line = |&(id, guard): &(_, Guard)| match guard {
                Guard::Always => format!("{id} always\n"),
                Guard::When(condition) => format!("{id} when\n{}", demand.arena().rooted_at(condition)),
            };
            demand.guards().iter().map(line).collect()
        },
        "demand",
    );
}
