//! The masks that are built, written as expressions.

use std::cell::RefCell;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Rem, Sub};
use std::rc::Rc;

use flex_core::capture::{Capture, CaptureValue, IntoArray};
use flex_core::ir::{BinaryOp, Builder, CaptureId, Input, NodeId, Type, UnaryOp};
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

pub(crate) fn sliding(window: i32) -> MaskMod {
    mask("sliding", &[], |s| s.q.is(BinaryOp::Ge, &s.kv).and(&(&s.q - &s.kv).below(window + 1)))
}

pub(crate) fn prefix_lm(prefix: i32) -> MaskMod {
    mask("prefix_lm", &[], |s| s.kv.below(prefix).or(&s.q.is(BinaryOp::Ge, &s.kv)))
}

/// Documents of unequal length, about `count` of them.
pub(crate) fn ids(len: usize, count: usize) -> Vec<i32> {
    let mut ids = Vec::with_capacity(len);
    let mut seed = 1u64;
    while ids.len() < len {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = len / count / 2 + (seed >> 33) as usize % (len / count).max(1) + 1;
        let id = ids.last().map_or(0, |id| id + 1);
        ids.resize(len.min(ids.len() + size), id);
    }
    ids
}

pub(crate) fn document(ids: &Vec<i32>) -> MaskMod {
    mask("document", &[("doc", ids)], |s| s.load(0, &s.q).is(BinaryOp::Eq, &s.load(0, &s.kv)))
}

pub(crate) fn document_causal(ids: &Vec<i32>) -> MaskMod {
    mask("document_causal", &[("doc", ids)], |s| {
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

/// Ancestors in a tree whose nodes know when they are entered and left.
pub(crate) fn tree(enter: &Vec<i32>, leave: &Vec<i32>) -> MaskMod {
    mask("tree", &[("enter", enter), ("leave", leave)], |s| {
        let at = s.load(0, &s.q);
        s.load(0, &s.kv).is(BinaryOp::Le, &at).and(&at.is(BinaryOp::Lt, &s.load(1, &s.kv)))
    })
}

/// Causal over tiles in a random order: two gathers.
pub(crate) fn permuted_tiles(order: &Vec<i32>, tile: i32) -> MaskMod {
    mask("permuted_tiles", &[("order", order)], |s| {
        s.load(0, &(&s.q / tile)).is(BinaryOp::Ge, &s.load(0, &(&s.kv / tile)))
    })
}

/// Bits of q xor kv that the analysis cannot see through, and that are not mixed in a row of a tile: nothing but a full
/// evaluation tells.
pub(crate) fn xor_pattern() -> MaskMod {
    mask("xor", &[], |s| {
        let mixed = &(&s.q ^ &s.kv) * 0x1f35;
        let bits = &(&mixed ^ &(&s.q * 7)) & 0xff0;
        // Never equal: the lowest bits were cut off.
        bits.equals(5).not()
    })
}

/// The xor of the numbers of the tiles, a pattern that is full or empty by tile.
pub(crate) fn xor_tiles() -> MaskMod {
    mask("xor_tiles", &[], |s| (&(&(&s.q / 128) ^ &(&s.kv / 128)) & 3).equals(0))
}
