//! A mod means the same natively and bound: every construct of the language, over grids of inputs, faults included.

#![allow(
    clippy::manual_clamp,
    clippy::manual_swap,
    clippy::eq_op,
    clippy::needless_borrows_for_generic_args,
    clippy::type_complexity,
    reason = "the mods are written in every way that Rust allows"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use flex_attention::prelude::*;
use flex_attention::{mask_mod, score_mod};
use flex_core::analysis::interpret::{self, Point};

const SCORES: [f32; 11] =
    [0.0, -0.0, 0.5, 1.5, -2.25, 3.0, 1e30, -1e-30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

fn points() -> impl Iterator<Item = Point> {
    (0..2).flat_map(|b| {
        (0..3).flat_map(move |h| (-3..9).flat_map(move |q| (-3..9).map(move |kv| Point { b, h, q, kv })))
    })
}

/// The native result; `None` where Rust panics, which is where a mod faults.
fn native<T>(f: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload_as_str().unwrap_or_default();
            let expected = message.contains("is outside axis") || message.contains("divisor of zero");
            if !expected && !message.contains("divide by zero") {
                before(info);
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// How many points a comparison saw with a value and with a fault.
#[derive(Debug, Default)]
struct Seen {
    values: usize,
    faults: usize,
}

#[track_caller]
fn mask_agrees(bound: &MaskMod, f: impl Fn(i32, i32, i32, i32) -> bool) -> Seen {
    let mut seen = Seen::default();
    for at in points() {
        let expected = native(|| f(at.b, at.h, at.q, at.kv));
        assert_eq!(interpret::mask(bound.bound(), at).ok(), expected, "{} at {at:?}", bound.name());
        if expected.is_some() { seen.values += 1 } else { seen.faults += 1 }
    }
    seen
}

#[track_caller]
fn score_agrees(bound: &ScoreMod, f: impl Fn(f32, i32, i32, i32, i32) -> f32) -> Seen {
    let mut seen = Seen::default();
    for at in points() {
        for score in SCORES {
            let expected = native(|| f(score, at.b, at.h, at.q, at.kv));
            let got = interpret::score(bound.bound(), at, score).ok();
            let same = match (got, expected) {
                (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(same, "{} at {at:?} of {score}: {got:?}, native {expected:?}", bound.name());
            if expected.is_some() { seen.values += 1 } else { seen.faults += 1 }
        }
    }
    seen
}

const LIMIT: i32 = 5;
const STEPS: u32 = 3;

mod constants {
    pub(crate) const SHARP: f32 = 1.25;
    pub(crate) struct Table;
    impl Table {
        pub(crate) const WIDTH: i32 = 4;
    }
}

#[mask_mod]
fn arithmetic(b: i32, h: i32, q: i32, kv: i32, n: i32) -> bool {
    let a = q * 3 - kv + n / 2;
    let b = (a % 4) ^ (q & kv) | (h << 2) >> 1;
    let c = !b + -a;
    c > b || a <= n && q != kv
}

#[test]
fn integer_operators() {
    for n in [-7, 0, 3] {
        mask_agrees(&arithmetic::bind(n).unwrap(), |b, h, q, kv| arithmetic(b, h, q, kv, n));
    }
}

#[mask_mod]
fn divides(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q / kv > 0 || q % (kv - 1) == h
}

#[test]
fn division_by_zero_is_a_fault_where_rust_divides() {
    let seen = mask_agrees(&divides::bind().unwrap(), divides);
    assert!(seen.faults > 0 && seen.values > 0, "{seen:?}");
}

#[mask_mod]
fn guarded(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>, flags: View<bool, 1>) -> bool {
    let inside = q >= 0 && q < doc.len() && kv >= 0 && kv < doc.dim(0);
    inside && doc[q] == doc[kv] || (h < 2 && flags[h])
}

#[test]
fn lazy_operators_guard_their_right_side() {
    let (doc, flags) = ([0, 0, 1, 1, 2], [false, true]);
    let views = (View::new(&doc, [5]).unwrap(), View::new(&flags, [2]).unwrap());
    let seen = mask_agrees(&guarded::bind(&doc, &flags).unwrap(), |b, h, q, kv| {
        guarded(b, h, q, kv, views.0, views.1)
    });
    assert_eq!(seen.faults, 0);
}

#[mask_mod]
fn unguarded(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

#[mask_mod]
fn eager_let(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    let unused = doc[q];
    let _ = doc[kv] + unused;
    h == 0
}

#[mask_mod]
fn eager_let_in_branches(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    if h == 0 {
        let first = doc[q];
        kv > 0 && {
            let second = doc[kv];
            first < 1 || second > 0
        }
    } else if h == 1 {
        let _unused = 7 / kv;
        true
    } else {
        false
    }
}

#[mask_mod]
fn faults_in_assignments(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    let mut x = 1;
    if h > 0 {
        x = doc[q];
        let _y = doc[kv];
    } else if b > 0 {
        x /= kv;
    }
    x += 1;
    let _ = x;
    q > kv
}

#[mask_mod]
fn faults_in_conditions(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    let mut x = 0;
    if b == 0 {
        if doc[q] > 100 {
            x = 1;
        }
    } else {
        match h {
            0 if doc[kv] > 0 => x = 2,
            _ => x += 3,
        }
    }
    if 6 / q > 1 {
        x -= 1;
    }
    let _ = x;
    h > 0
}

#[test]
fn a_let_keeps_its_faults_and_a_branch_not_taken_has_none() {
    let doc = [3, 0, 1, 1, 2, 5];
    let view = View::new(&doc, [6]).unwrap();
    let mods: [(_, fn(i32, i32, i32, i32, View<i32, 1>) -> bool); 5] = [
        (unguarded::bind(&doc), unguarded),
        (eager_let::bind(&doc), eager_let),
        (eager_let_in_branches::bind(&doc), eager_let_in_branches),
        (faults_in_assignments::bind(&doc), faults_in_assignments),
        (faults_in_conditions::bind(&doc), faults_in_conditions),
    ];
    for (bound, plain) in mods {
        let seen = mask_agrees(&bound.unwrap(), |b, h, q, kv| plain(b, h, q, kv, view));
        assert!(seen.faults > 0 && seen.values > 0, "{seen:?}");
    }
}

#[score_mod]
fn branches(score: f32, b: i32, h: i32, q: i32, kv: i32) -> f32 {
    let x = if q > kv {
        score * 1.5
    } else if q == kv {
        score
    } else {
        -score - 2.0
    };
    let y = match kv {
        0 => x,
        1 | 2 if h > 0 => x + 1.0,
        -3..=-1 => x * 2.0,
        3..5 => x / 2.0,
        LIMIT => 0.25,
        n if n % 2 == 0 => n as f32,
        6.. => -1.0,
        _ => x - 1.0,
    };
    match (q > 2) != (h == 1) {
        true => y,
        false => y + 0.5,
    }
}

#[test]
fn if_and_match() {
    score_agrees(&branches::bind().unwrap(), branches);
}

#[score_mod]
fn accumulates(score: f32, b: i32, h: i32, q: i32, kv: i32, weights: View<f32, 2>) -> f32 {
    let mut sum = 0.0;
    let mut count = 0u32;
    for i in 0..3 {
        let mut row = 0.0;
        for j in 0..=1 {
            if i + j <= h + 1 {
                row += weights[[i, j]] * score;
                count += 1;
            } else {
                row -= 0.5;
            }
        }
        if row > sum {
            sum = row;
        } else {
            sum *= constants::SHARP;
        }
    }
    for _ in 0..STEPS {
        count <<= 1;
    }
    for i in -1..constants::Table::WIDTH - 1 {
        sum += (i * q) as f32;
    }
    let (sum, scale) = (sum + count as f32, score);
    sum + scale
}

#[test]
fn loops_and_assignments() {
    let weights = [[0.5f32, -1.0], [2.0, 0.25], [1.0, 3.0]];
    let view = View::new(weights.as_flattened(), [3, 2]).unwrap();
    let seen = score_agrees(&accumulates::bind(&weights).unwrap(), |s, b, h, q, kv| {
        accumulates(s, b, h, q, kv, view)
    });
    assert_eq!(seen.faults, 0);
}

#[mask_mod]
fn swaps(b: i32, h: i32, q: i32, kv: i32) -> bool {
    let mut low = q;
    let mut high = kv;
    if low > high {
        let before = low;
        low = high;
        high = before;
    }
    if b > 0 {
        (low, high) = (high - 1, low + 1);
    }
    let mut steps = 0;
    for i in 0..4 {
        match (high - low) % 3 {
            0 => steps += i,
            1 => {
                low += 1;
                steps -= 1;
            }
            _ => {
                let low = high;
                high = low - 1;
            }
        }
    }
    low + steps < high + h
}

#[test]
fn assignments_in_branches_and_shadowing() {
    mask_agrees(&swaps::bind().unwrap(), swaps);
}

#[score_mod]
fn float_methods(score: f32, b: i32, h: i32, q: i32, kv: i32) -> f32 {
    let x = score;
    match kv {
        -3 => x.abs().sqrt() + x.exp(),
        -2 => x.exp2() * x.ln() - x.log2(),
        -1 => x.sin() + x.cos() * x.tanh(),
        0 => x.floor() + x.ceil() - x.round() * x.trunc(),
        1 => x.fract() + x.recip(),
        2 => x.min(1.0).max(-0.5) + x.signum(),
        3 => x.clamp(-1.0, 2.0),
        4 => x.powi(3) + x.powi(-2) + x.powi(0) + x.powi(1),
        5 => x.powf(1.5) + f32::max(x, 2.0),
        6 => x.rem_euclid(1.25) + x.rem_euclid(-0.75),
        7 => x.div_euclid(1.25) - x.div_euclid(-0.75),
        _ => x % 0.75,
    }
}

#[mask_mod]
fn float_tests(b: i32, h: i32, q: i32, kv: i32, xs: View<f32, 1>) -> bool {
    let x = xs[(kv + 3) as u32];
    match q {
        0 => x.is_nan(),
        1 => x.is_finite(),
        2 => x.is_infinite(),
        3 => x == f32::INFINITY || x < f32::NEG_INFINITY,
        4 => x > std::f32::consts::PI,
        5 => x as i32 > 2,
        6 => x as u32 == 0,
        7 => (x as i32).is_negative() ^ (x >= 0.0),
        _ => x != x,
    }
}

#[test]
fn float_methods_mean_what_they_mean_in_rust() {
    score_agrees(&float_methods::bind().unwrap(), float_methods);
    let xs: Vec<f32> = SCORES.into_iter().chain([-0.5, 4e9]).collect();
    let view = View::new(&xs, [xs.len()]).unwrap();
    let seen = mask_agrees(&float_tests::bind(&xs).unwrap(), |b, h, q, kv| float_tests(b, h, q, kv, view));
    assert_eq!(seen.faults, 0);
}

#[score_mod]
fn integer_methods(score: f32, b: i32, h: i32, q: i32, kv: i32, words: View<u32, 1>) -> f32 {
    let u = words[q.rem_euclid(4)];
    let value = match kv {
        -3 => q.abs().pow(3) + q.pow(0),
        -2 => q.signum() * q.min(2).max(-1),
        -1 => q.clamp(-1, 4) + q.div_euclid(-3) + q.rem_euclid(-3),
        0 => (q.count_ones() + q.leading_zeros() + q.trailing_zeros()) as i32,
        1 => (u.count_ones() + u.leading_zeros()) as i32 + u.trailing_zeros() as i32,
        2 => (q.abs_diff(kv) + u.abs_diff(7) % 100) as i32,
        3 => q.wrapping_mul(i32::MAX).wrapping_add(i32::MIN).wrapping_sub(3).wrapping_neg(),
        4 => u.wrapping_mul(5).wrapping_neg() as i32,
        5 => (u.pow(2) / 3 % 1000) as i32,
        6 => i32::MIN.abs_diff(i32::MAX) as i32,
        7 => q.is_positive() as i32 - (q.unsigned_abs() as i32),
        _ => (u >> 3 | u << 2 ^ 5) as i32,
    };
    score + value as f32
}

#[test]
fn integer_methods_mean_what_they_mean_in_rust() {
    let words = [0u32, 9, 65_000, 12_345];
    let view = View::new(&words, [4]).unwrap();
    let seen = score_agrees(&integer_methods::bind(&words).unwrap(), |s, b, h, q, kv| {
        integer_methods(s, b, h, q, kv, view)
    });
    assert_eq!(seen.faults, 0);
}

#[mod_fn]
fn looked_up(table: View<f32, 1>, index: u32, scale: f32) -> f32 {
    let _next = table[index + 1];
    if index > 1 { table[index] * scale } else { scale }
}

mod elsewhere {
    use flex_attention::prelude::*;

    #[mod_fn]
    pub(crate) fn twice(x: i32, on: bool) -> i32 {
        if on { super::doubled(x) } else { x }
    }
}

#[mod_fn]
fn doubled(x: i32) -> i32 {
    2 * x
}

#[score_mod]
fn calls(score: f32, b: i32, h: i32, q: i32, kv: i32, table: View<f32, 1>) -> f32 {
    let bias = looked_up(table, 2 + h as u32, score);
    if arithmetic(b, h, q, kv, 3) {
        bias
    } else {
        elsewhere::twice(q, h == 1) as f32 + self::doubled(kv) as f32
    }
}

#[test]
fn calls_between_mods() {
    let table = [1.0f32, 2.0, 3.0, 4.0, 5.0];
    let view = View::new(&table, [5]).unwrap();
    let seen = score_agrees(&calls::bind(&table).unwrap(), |s, b, h, q, kv| calls(s, b, h, q, kv, view));
    assert!(seen.faults > 0 && seen.values > 0, "{seen:?}");
}

#[score_mod]
fn ranks(
    score: f32,
    b: i32,
    h: i32,
    q: i32,
    kv: i32,
    three: View<f32, 3>,
    four: View<u32, 4>,
    two: View<bool, 2>,
) -> f32 {
    let x = three[[b, h, (q + 3) % 4]];
    let y = four[(b, h as u32, 1, kv.rem_euclid(2))];
    if two[[b, h]] { x + score } else { y as f32 + three.dim(2) as f32 }
}

#[test]
fn views_of_every_rank() {
    let three: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let four: Vec<u32> = (0..24).collect();
    let two = [[true, false, true], [false, true, true]];
    let views = (
        View::new(&three, [2, 3, 4]).unwrap(),
        View::new(&four, [2, 3, 2, 2]).unwrap(),
        View::new(two.as_flattened(), [2, 3]).unwrap(),
    );
    let bound = ranks::bind(views.0, &views.1, &two).unwrap();
    let seen = score_agrees(&bound, |s, b, h, q, kv| ranks(s, b, h, q, kv, views.0, views.1, views.2));
    assert_eq!(seen.faults, 0);
}

#[score_mod]
fn scalars(score: f32, b: i32, h: i32, q: i32, kv: i32, n: u32, on: bool, x: f32) -> f32 {
    let shifted = n.max(1) >> (h as u32) << q.rem_euclid(3);
    if on && shifted as i32 > kv { score * x } else { score - shifted as f32 }
}

#[test]
fn scalars_of_every_type() {
    for (n, on, x) in [(5, true, 0.5), (3_000_000_000, false, -1.0), (9, true, f32::NAN)] {
        let bound = scalars::bind(n, &on, x).unwrap();
        score_agrees(&bound, |s, b, h, q, kv| scalars(s, b, h, q, kv, n, on, x));
    }
}

#[test]
fn closures_capture_by_name() {
    let window = &3;
    let doc = vec![0, 0, 1, 1, 2, 2, 2, 3, 3];
    let view = View::new(&doc, [9]).unwrap();
    let bound =
        mask_mod!(move |b, h, q, kv| q - kv <= window + 1 && doc[q.max(0)] == doc[kv.max(0)] && kv < LIMIT);
    mask_agrees(&bound, |_, _, q, kv| {
        q - kv <= window + 1 && view[q.max(0)] == view[kv.max(0)] && kv < LIMIT
    });

    let table: &[f32] = &[0.5, 1.5, 2.5, 3.5, 4.5];
    let (steps, scale): (u32, f32) = (2, 0.25);
    let bound = score_mod!(|score: f32, _, h, q, kv| {
        let index = steps + 1;
        let bias = looked_up(table, index, scale);
        if table[h] > 1.0 { score * scale + bias } else { (q - kv) as f32 }
    });
    let view = View::new(table, [5]).unwrap();
    score_agrees(&bound, |score, _, h, q, kv| {
        let bias = looked_up(view, steps + 1, scale);
        if view[h] > 1.0 { score * scale + bias } else { (q - kv) as f32 }
    });
}

#[test]
fn closures_pass_arrays_on() {
    let doc = [0, 1, 1];
    let view = View::new(&doc, [3]).unwrap();
    let threshold = 2;
    let bound = mask_mod!(|b, h, q, kv| unguarded(b, h, q, kv, doc) || doubled(threshold) < q);
    let seen = mask_agrees(&bound, |b, h, q, kv| unguarded(b, h, q, kv, view) || doubled(threshold) < q);
    assert!(seen.faults > 0);
}

#[test]
fn mods_can_be_made_inside_functions() {
    const NEAR: i32 = 2;
    #[mod_fn]
    fn near(distance: i32) -> bool {
        distance.abs() <= NEAR
    }
    #[mask_mod]
    fn local(b: i32, h: i32, q: i32, kv: i32) -> bool {
        near(q - kv)
    }
    mask_agrees(&local::bind().unwrap(), local);
    mask_agrees(&mask_mod!(|b, h, q, kv| !near(q - kv)), |_, _, q, kv| !near(q - kv));
}

#[test]
fn captures_keep_their_names_and_order() {
    let bound = scalars::bind(1, true, 2.0).unwrap();
    let names: Vec<_> = bound.bound().captures().iter().map(|capture| capture.name.as_str()).collect();
    assert_eq!(names, ["n", "on", "x"]);
    assert_eq!(bound.name(), "scalars");
}

#[test]
fn what_always_runs_is_not_kept_twice() {
    #[mask_mod]
    fn plain(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
        doc[q] == doc[kv]
    }
    #[mask_mod]
    fn named(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
        let own = doc[q];
        let other = doc[kv];
        own == other
    }
    let doc = [0, 1];
    let (plain, named) = (plain::bind(&doc).unwrap(), named::bind(&doc).unwrap());
    assert_eq!(plain.bound().expr(), named.bound().expr());
}
