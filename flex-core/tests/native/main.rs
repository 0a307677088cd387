//! The same Rust text run natively and as an expression, over grids: value for value, panic for fault.
#![allow(clippy::manual_clamp, clippy::precedence, reason = "both worlds need the same text")]

mod symbol;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flex_core::analysis::interpret::Point;
use flex_core::analysis::simplify::simplify;
use flex_core::capture::{Capture, CaptureValue, IntoArray, View};
use flex_core::ir::{Expr, Scalar, Type};
use flex_core::mods::BoundExpr;
use flex_core::testing::{Outcome, outcome};
use symbol::{At, Casts, Condition, Dim, Language, Then, record};

const DOC: [i32; 8] = [0, 0, 1, 1, 1, 2, 2, 7];
const BIAS: [f32; 12] = [0.5, -1.0, 2.25, 0.0, -0.0, 3.5, f32::INFINITY, 1e-3, -7.5, 4.0, f32::NAN, 0.125];

fn captures() -> Vec<Capture> {
    let array = |name: &str, array: Arc<_>| Capture { name: name.into(), value: CaptureValue::Array(array) };
    vec![
        array("doc", IntoArray::<i32, 1>::into_array(&DOC)),
        array("bias", IntoArray::<f32, 2>::into_array(View::new(&BIAS, [3, 4]).unwrap())),
    ]
}

const DECLARED: [(&str, Type, u8); 2] = [("doc", Type::I32, 1), ("bias", Type::F32, 2)];

thread_local! {
    /// Whether a panic is a fault of native code, which is expected and need not be reported.
    static NATIVE: Cell<bool> = const { Cell::new(false) };
}

/// Checks one function at every point of a grid.
fn check<T: Into<Scalar>>(name: &str, expr: Expr, native: impl Fn(Point, f32) -> T) {
    let simplified = BoundExpr::new(name, simplify(&expr), captures()).unwrap();
    let bound = BoundExpr::new(name, expr, captures()).unwrap();
    let (mut values, mut faults) = (0, 0);
    for (b, h) in [(0, 0), (1, 2), (2, 3)] {
        for q in (-3..11).chain([1000]) {
            for kv in (-2..10).chain([4096]) {
                for score in [-3.5, -1.0, -0.0, 0.0, 0.4, 1.0, 2.5, 100.0, f32::NEG_INFINITY, f32::NAN] {
                    let at = Point { b, h, q, kv };
                    let interpreted = outcome(&bound, at, score);
                    assert_eq!(
                        outcome(&simplified, at, score),
                        interpreted,
                        "{name} at {at:?}, {score}, simplified"
                    );
                    NATIVE.set(true);
                    let ran = catch_unwind(AssertUnwindSafe(|| native(at, score).into()));
                    NATIVE.set(false);
                    match ran {
                        Ok(value) => {
                            assert_eq!(interpreted, Outcome::from(value), "{name} at {at:?}, {score}");
                            values += 1;
                        }
                        Err(_) => {
                            assert!(matches!(interpreted, Outcome::Fault(_)), "{name} at {at:?}, {score}");
                            faults += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(values + faults, 3 * 15 * 13 * 10);
    assert!(values > 0, "{name} has no value anywhere");
    assert_eq!(
        faults > 0,
        name.ends_with('!'),
        "{name}: {faults} faults; names end with ! where there are some"
    );
}

/// Functions over `|b, h, q, kv, s, doc, bias|`, each expanded twice from the same tokens.
macro_rules! mirrored {
    (|$b:ident, $h:ident, $q:ident, $kv:ident, $s:ident, $doc:ident, $bias:ident| $($name:literal => $body:expr;)*) => {
        let functions = [$($name),*];
        assert!(functions.len() >= 40, "{}", functions.len());
        $({
            #[allow(unused_variables)]
            let expr = record(&DECLARED, |[$b, $h, $q, $kv, $s], views| {
                let ($doc, $bias) = (&views[0], &views[1]);
                $body
            });
            #[allow(unused_variables)]
            check($name, expr, |Point { b: $b, h: $h, q: $q, kv: $kv }, $s: f32| {
                let ($doc, $bias) =
                    (&View::<i32, 1>::new(&DOC, [8]).unwrap(), &View::<f32, 2>::new(&BIAS, [3, 4]).unwrap());
                $body
            });
        })*
    };
}

#[test]
fn rust_is_what_the_interpreter_says() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !NATIVE.get() {
            report(info);
        }
    }));
    mirrored! { |b, h, q, kv, s, doc, bias|
        "causal" => q.ge(kv);
        "sliding window" => q.ge(kv).and_then(|| (q - kv).le(3));
        "dilated window" => (q - kv).ge(0).and_then(|| ((q - kv) % 2).eq(0));
        "global and sliding" => q.lt(2).or_else(|| kv.lt(2)).or_else(|| (q - kv).abs().le(4));
        "prefix" => kv.lt(5).or_else(|| q.ge(kv));
        "document!" => doc.at([q]).eq(doc.at([kv]));
        "document, guarded" => q.ge(0).and_then(|| q.lt(doc.length(0))).and_then(|| kv.ge(0))
            .and_then(|| kv.lt(doc.length(0))).and_then(|| doc.at([q]).eq(doc.at([kv])));
        "document or causal!" => q.ge(kv).or_else(|| doc.at([q]).eq(doc.at([kv])));
        "padding" => kv.lt(doc.at([b]));
        "block diffusion" => (q / 4).ge(kv / 4);
        "block diffusion, euclid" => q.div_euclid(4).ge(kv.div_euclid(4));
        "natten" => (q.rem_euclid(4) - kv.rem_euclid(4)).abs().le(1)
            & (q.div_euclid(4) - kv.div_euclid(4)).abs().le(1);
        "division by an index!" => (q / kv).gt(1);
        "remainder by an index!" => q % kv;
        "euclidean remainder by an index!" => q.rem_euclid(kv);
        "division behind a condition" => kv.ne(0).pick(|| q / kv, || q);
        "an unused load still panics!" => doc.at([q]).then_value(kv);
        "of two unused loads either panics!" => doc.at([kv]).then_value(doc.at([q]).then_value(kv));
        "an unused load in a branch!" => kv.gt(4).pick(|| doc.at([q]).then_value(kv), || q);
        "index of an index!" => doc.at([doc.at([q])]);
        "wrapping product" => q.wrapping_mul(1 << 28).wrapping_add(kv.wrapping_mul(77_777_777));
        "wrapping negation" => (q.wrapping_mul(i32::MIN)).wrapping_neg().wrapping_abs();
        "shifts wrap their amount" => q.wrapping_shl(kv.to_u32()) ^ kv.wrapping_shr(q.to_u32());
        "u32 comparison" => q.to_u32().lt(kv.to_u32());
        "u32 arithmetic" => q.to_u32().wrapping_sub(kv.to_u32()) / 3u32;
        "bits" => (q & 5) | (kv ^ 3) & !b;
        "counts" => q.count_ones() + kv.leading_zeros() + (q | 8).trailing_zeros();
        "integer min and max" => q.min(kv).max(2) - (q.max(kv)).min(5);
        "integer signum" => (q - kv).signum() * h;
        "float to integer saturates" => (s * 1e9).to_i32();
        "float to u32 saturates" => (s * 1e9).to_u32();
        "integer to float rounds" => q.wrapping_mul(16_777_217).to_f32();
        "alibi" => s + (kv - q).to_f32() * 0.0625;
        "softcap" => (s / 20.0).tanh() * 20.0;
        "bias!" => s + bias.at([h, kv]);
        "bias, clamped" => s + bias.at([h.min(2), kv.max(0).min(3)]);
        "head gate" => h.eq(2).pick(|| s, || s * 0.0);
        "silu" => s / ((-s).exp() + 1.0);
        "rounding" => s.floor() + s.ceil() * 10.0 + s.round() * 100.0 + s.trunc() * 1000.0;
        "negative zero" => (s * 0.0 + -0.0).signum();
        "zero" => (s * 0.0 + 0.0).signum();
        "nan loses in min" => s.min(1.0) + s.max(0.5);
        "nan is no number" => s.is_nan();
        "nan compares as nothing" => s.lt(0.5) | s.ge(0.5);
        "the negation of a float comparison" => !s.lt(0.5);
        "roots and logarithms" => s.abs().sqrt() + s.ln() * s.log2();
        "waves" => s.sin() * s.cos() + s.exp2();
        "powers" => s.powf(2.0) + s.powf(0.5);
        "power zero" => s.powf(0.0);
        "float remainder" => (s * 3.0) % 1.25;
        "divisions of floats by zero" => s / (q - kv).to_f32();
        "nested branches" => q.gt(kv).pick(|| s.gt(0.0).pick(|| s, || -s), || s.lt(0.0).pick(|| s * 2.0, || s - -s));
    }
}
