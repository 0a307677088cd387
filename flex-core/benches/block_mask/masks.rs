//! The masks that are built, written as expressions.

use std::cell::RefCell;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Rem, Sub};
use std::rc::Rc;

use flex_core::capture::{Capture, CaptureValue, IntoArray};
use flex_core::ir::{BinaryOp, Builder, CaptureId, Input, NodeId, Type, UnaryOp};
use flex_core::mask::Extent;
use flex_core::mods::MaskMod;

/// An expression under construction.
#[derive(Clone)]
pub(crate) struct Value(Rc<RefCell<Builder>>, NodeId);

/// What a mask is written with.
pub(crate) struct Scope {
    builder: Rc<RefCell<Builder>>,
    pub(crate) q: Value,
    pub(crate) kv: Value,
    views: Vec<CaptureId>,
}

pub(crate) fn mask(name: &str, views: &[(&str, &Vec<i32>)], write: impl FnOnce(&Scope) -> Value) -> MaskMod {
    let mut builder = Builder::new();
    let ids = views.iter().map(|(name, _)| builder.declare(*name, Type::I32, 1)).collect();
    let (q, kv) = (builder.input(Input::Query), builder.input(Input::Key));
    let builder = Rc::new(RefCell::new(builder));
    let value = |id| Value(builder.clone(), id);
    let scope = Scope { builder: builder.clone(), q: value(q), kv: value(kv), views: ids };
    let root = write(&scope).1;
    let captures = views
        .iter()
        .map(|(name, data)| Capture {
            name: (*name).into(),
            value: CaptureValue::Array((*data).into_array()),
        })
        .collect();
    let builder = builder.borrow().clone();
    MaskMod::new(name, builder.finish(root).expect("a well-typed mask"), captures).expect("a mask")
}

impl Scope {
    pub(crate) fn load(&self, view: usize, index: &Value) -> Value {
        let id = self.builder.borrow_mut().load(self.views[view], &[index.1]);
        Value(self.builder.clone(), id)
    }
}

impl Value {
    fn number(&self, value: i32) -> NodeId {
        self.0.borrow_mut().constant(value)
    }

    fn with(&self, op: BinaryOp, other: NodeId) -> Self {
        let id = self.0.borrow_mut().binary(op, self.1, other);
        Self(self.0.clone(), id)
    }

    pub(crate) fn is(&self, op: BinaryOp, other: &Self) -> Self {
        self.with(op, other.1)
    }

    pub(crate) fn at_least(&self, value: i32) -> Self {
        self.with(BinaryOp::Ge, self.number(value))
    }

    pub(crate) fn below(&self, value: i32) -> Self {
        self.with(BinaryOp::Lt, self.number(value))
    }

    pub(crate) fn equals(&self, value: i32) -> Self {
        self.with(BinaryOp::Eq, self.number(value))
    }

    pub(crate) fn abs(&self) -> Self {
        let id = self.0.borrow_mut().unary(UnaryOp::Abs, self.1);
        Self(self.0.clone(), id)
    }

    pub(crate) fn clamp(&self, lo: i32, hi: i32) -> Self {
        let raised = self.with(BinaryOp::Max, self.number(lo));
        raised.with(BinaryOp::Min, self.number(hi))
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        let id = self.0.borrow_mut().and_then(self.1, other.1);
        Self(self.0.clone(), id)
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        let id = self.0.borrow_mut().or_else(self.1, other.1);
        Self(self.0.clone(), id)
    }

    pub(crate) fn not(&self) -> Self {
        let id = self.0.borrow_mut().unary(UnaryOp::Not, self.1);
        Self(self.0.clone(), id)
    }

    pub(crate) fn select(&self, accept: &Self, reject: &Self) -> Self {
        let id = self.0.borrow_mut().select(self.1, accept.1, reject.1);
        Self(self.0.clone(), id)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait<i32> for &Value {
            type Output = Value;
            fn $method(self, other: i32) -> Value {
                self.with(BinaryOp::$trait, self.number(other))
            }
        }
        impl $trait for &Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.with(BinaryOp::$trait, other.1)
            }
        }
    )*};
}
operators!(Add add, Sub sub, Mul mul, Div div, Rem rem);

macro_rules! bit_operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl $trait<i32> for &Value {
            type Output = Value;
            fn $method(self, other: i32) -> Value {
                self.with(BinaryOp::$op, self.number(other))
            }
        }
        impl $trait for &Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.with(BinaryOp::$op, other.1)
            }
        }
    )*};
}
bit_operators!(BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor);

pub(crate) fn causal() -> MaskMod {
    mask("causal", &[], |s| s.q.is(BinaryOp::Ge, &s.kv))
}

pub(crate) fn sliding_window(window: i32) -> MaskMod {
    mask("sliding_window", &[], |s| s.q.is(BinaryOp::Ge, &s.kv).and(&(&s.q - &s.kv).below(window + 1)))
}

pub(crate) fn prefix_lm(prefix: i32) -> MaskMod {
    mask("prefix_lm", &[], |s| s.kv.below(prefix).or(&s.q.is(BinaryOp::Ge, &s.kv)))
}

/// 12 documents whose lengths are as 1 to 12, mixed.
pub(crate) fn twelve(len: usize) -> Vec<i32> {
    let parts = [5, 1, 9, 3, 12, 7, 2, 10, 4, 8, 6, 11];
    let mut ids = Vec::with_capacity(len);
    let mut until = 0;
    for (id, part) in parts.into_iter().enumerate() {
        until += part;
        ids.resize(until * len / 78, id as i32);
    }
    ids
}

/// Documents of 512 to 1536 tokens.
pub(crate) fn packed(len: usize) -> Vec<i32> {
    let mut ids = Vec::with_capacity(len);
    let mut state = 1u32;
    for id in 0.. {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ids.resize(len.min(ids.len() + 512 + (state >> 22) as usize), id);
        if ids.len() == len {
            break;
        }
    }
    ids
}

pub(crate) fn document(ids: &Vec<i32>) -> MaskMod {
    mask("document", &[("doc", ids)], |s| s.load(0, &s.q).is(BinaryOp::Eq, &s.load(0, &s.kv)))
}

pub(crate) fn document_causal(name: &str, ids: &Vec<i32>) -> MaskMod {
    mask(name, &[("doc", ids)], |s| {
        s.load(0, &s.q).is(BinaryOp::Eq, &s.load(0, &s.kv)).and(&s.q.is(BinaryOp::Ge, &s.kv))
    })
}

pub(crate) fn global_sliding(global: i32, window: i32) -> MaskMod {
    mask("global_sliding", &[], |s| {
        let near = (&s.q - &s.kv).abs().below(window + 1);
        near.or(&s.q.below(global)).or(&s.kv.below(global))
    })
}

/// Neighbours within `radius` on a `side`×`side` grid, windows moved inside at the edges.
pub(crate) fn natten(side: i32, radius: i32) -> MaskMod {
    mask("natten", &[], |s| {
        let near = |q: Value, kv: Value| (&q.clamp(radius, side - 1 - radius) - &kv).abs().below(radius + 1);
        near(&s.q / side, &s.kv / side).and(&near(&s.q % side, &s.kv % side))
    })
}

/// Block diffusion (BD3-LM): noised tokens first, clean ones after them, in blocks of `size`.
pub(crate) fn block_diffusion(half: i32, size: i32) -> MaskMod {
    mask("block_diffusion", &[], |s| {
        let (q_clean, kv_clean) = (s.q.at_least(half), s.kv.at_least(half));
        let block = |x: &Value, clean: &Value| clean.select(&(&(x - half) / size), &(x / size));
        let (q_block, kv_block) = (block(&s.q, &q_clean), block(&s.kv, &kv_clean));
        let same = q_block.is(BinaryOp::Eq, &kv_block).and(&q_clean.is(BinaryOp::Eq, &kv_clean));
        let before = q_block.is(BinaryOp::Gt, &kv_block).and(&kv_clean).and(&q_clean.not());
        let causal = q_block.is(BinaryOp::Ge, &kv_block).and(&kv_clean).and(&q_clean);
        same.or(&before).or(&causal)
    })
}

/// Sliding tiles on a grid of `side`³ in tiles of `tile`³, tile after tile (STA).
pub(crate) fn sliding_tiles(side: i32, tile: i32, radius: i32) -> MaskMod {
    mask("sta_3d", &[], |s| {
        let (tiles, volume) = (side / tile, tile * tile * tile);
        let near = |q: Value, kv: Value| (&q.clamp(radius, tiles - 1 - radius) - &kv).abs().below(radius + 1);
        let (q, kv) = (&s.q / volume, &s.kv / volume);
        let axis = |x: &Value, step: i32| &(x / step) % tiles;
        let axes = [tiles * tiles, tiles, 1].map(|step| near(axis(&q, step), axis(&kv, step)));
        axes[0].and(&axes[1]).and(&axes[2])
    })
}

/// The last descendant of every node of a balanced binary tree in depth-first order.
pub(crate) fn last_descendants(len: i32) -> Vec<i32> {
    let mut last = vec![0; len as usize];
    let mut open = vec![(0, len)];
    while let Some((root, end)) = open.pop() {
        if root < end {
            last[root as usize] = end - 1;
            let middle = root + 1 + (end - root - 1) / 2;
            open.extend([(root + 1, middle), (middle, end)]);
        }
    }
    last
}

/// Ancestors in a tree whose nodes are numbered as they are entered.
pub(crate) fn tree(last_descendants: &Vec<i32>) -> MaskMod {
    mask("tree", &[("last", last_descendants)], |s| {
        s.kv.is(BinaryOp::Le, &s.q).and(&s.q.is(BinaryOp::Le, &s.load(0, &s.kv)))
    })
}

/// The numbers below `count` in an order that is always the same one and has no pattern.
pub(crate) fn shuffled(count: usize) -> Vec<i32> {
    let mut numbers: Vec<i32> = (0..count as i32).collect();
    let mut state = 1u32;
    for i in (1..count).rev() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        numbers.swap(i, state as usize % (i + 1));
    }
    numbers
}

/// Causal over tiles in some order.
pub(crate) fn permuted_tiles(order: &Vec<i32>, tile: i32) -> MaskMod {
    mask("permuted_tiles", &[("order", order)], |s| {
        s.load(0, &(&s.q / tile)).is(BinaryOp::Ge, &s.load(0, &(&s.kv / tile)))
    })
}

/// A hash that the analysis cannot see through, and that is not mixed in a row of a tile: nothing but a full evaluation
/// tells.
pub(crate) fn unprovable() -> MaskMod {
    mask("unprovable", &[], |s| {
        let mixed = &(&s.q ^ &s.kv) * 7989;
        let bits = &(&mixed ^ &(&s.q * 7)) & 4080;
        // Never equal: the lowest bits were cut off.
        bits.equals(5).not()
    })
}

/// Tiles see those whose number differs from theirs in none of the given bits, a pattern that is full or empty by tile.
pub(crate) fn xor_tiles(tile: i32, bits: i32) -> MaskMod {
    mask("xor_tiles", &[], |s| (&(&(&s.q / tile) ^ &(&s.kv / tile)) & bits).equals(0))
}

/// One sequence of one head.
pub(crate) fn square(len: usize) -> Extent {
    Extent { batch: 1, heads: 1, q_len: len, kv_len: len }
}

/// The masks of a length, with captures that no build has indexed yet; written as those of the same name that `flex mask`
/// knows.
pub(crate) fn common(len: usize) -> Vec<MaskMod> {
    let tokens = len as i32;
    vec![
        causal(),
        sliding_window(tokens / 8),
        prefix_lm(tokens / 4),
        document(&twelve(len)),
        document_causal("document_causal", &twelve(len)),
        document_causal("packed_causal", &packed(len)),
        global_sliding(tokens / 32, tokens / 16),
    ]
}
