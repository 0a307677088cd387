//! Values that record what is done with them, so that one piece of Rust text is run natively and turned into an
//! expression.

use std::cell::RefCell;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Rem, Shl, Shr, Sub};

use flex_core::capture::{CaptureElement, View, ViewIndex};
use flex_core::ir::{BinaryOp, Builder, CaptureId, Expr, Input, NodeId, Scalar, Type, UnaryOp};

thread_local! {
    static BUILDER: RefCell<Builder> = RefCell::default();
}

pub(crate) fn record(
    captures: &[(&str, Type, u8)],
    f: impl FnOnce([Symbol; 5], &[SymbolicView]) -> Symbol,
) -> Expr {
    BUILDER.with_borrow_mut(|builder| *builder = Builder::new());
    let views: Vec<_> = captures
        .iter()
        .map(|&(name, ty, rank)| SymbolicView(with(|builder| builder.declare(name, ty, rank))))
        .collect();
    let inputs = Input::ALL.map(|input| Symbol(with(|builder| builder.input(input))));
    let root = f(inputs, &views);
    BUILDER.take().finish(root.0).unwrap()
}

fn with<T>(f: impl FnOnce(&mut Builder) -> T) -> T {
    BUILDER.with_borrow_mut(f)
}

#[derive(Clone, Copy)]
pub(crate) struct Symbol(NodeId);

impl<T: Into<Scalar>> From<T> for Symbol {
    fn from(value: T) -> Self {
        Self(with(|builder| builder.constant(value)))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct SymbolicView(CaptureId);

macro_rules! operators {
    ($($trait:ident $method:ident)*) => {$(
        impl<T: Into<Symbol>> $trait<T> for Symbol {
            type Output = Symbol;
            fn $method(self, other: T) -> Symbol {
                self.binary(BinaryOp::$trait, other)
            }
        }
    )*};
}
macro_rules! mapped_operators {
    ($($trait:ident $method:ident $op:ident)*) => {$(
        impl<T: Into<Symbol>> $trait<T> for Symbol {
            type Output = Symbol;
            fn $method(self, other: T) -> Symbol {
                self.binary(BinaryOp::$op, other)
            }
        }
    )*};
}
operators!(Add add Sub sub Mul mul Div div Rem rem Shl shl Shr shr);
mapped_operators!(BitAnd bitand And BitOr bitor Or BitXor bitxor Xor);

impl Neg for Symbol {
    type Output = Symbol;
    fn neg(self) -> Symbol {
        self.unary(UnaryOp::Neg)
    }
}

impl Not for Symbol {
    type Output = Symbol;
    fn not(self) -> Symbol {
        self.unary(UnaryOp::Not)
    }
}

macro_rules! unary_methods {
    ($($name:ident $op:ident)*) => {$(
        pub(crate) fn $name(self) -> Symbol {
            self.unary(UnaryOp::$op)
        }
    )*};
}
macro_rules! binary_methods {
    ($($name:ident $op:ident)*) => {$(
        pub(crate) fn $name(self, other: impl Into<Symbol>) -> Symbol {
            self.binary(BinaryOp::$op, other)
        }
    )*};
}

impl Symbol {
    fn unary(self, op: UnaryOp) -> Symbol {
        Symbol(with(|builder| builder.unary(op, self.0)))
    }

    fn binary(self, op: BinaryOp, other: impl Into<Symbol>) -> Symbol {
        let other = other.into();
        Symbol(with(|builder| builder.binary(op, self.0, other.0)))
    }

    unary_methods!(abs Abs signum Signum sqrt Sqrt exp Exp exp2 Exp2 ln Ln log2 Log2 sin Sin cos Cos tanh Tanh
        floor Floor ceil Ceil round Round trunc Trunc is_nan IsNan count_ones CountOnes leading_zeros LeadingZeros
        trailing_zeros TrailingZeros wrapping_neg Neg wrapping_abs Abs);
    binary_methods!(min Min max Max powf Pow rem_euclid RemEuclid div_euclid DivEuclid wrapping_add Add
        wrapping_sub Sub wrapping_mul Mul wrapping_shl Shl wrapping_shr Shr);
}

/// What both worlds need a name for, because Rust has no operator that could be overloaded.
pub(crate) trait Language: Copy + Sized {
    type Bool;
    fn eq(self, other: impl Into<Self>) -> Self::Bool;
    fn ne(self, other: impl Into<Self>) -> Self::Bool;
    fn lt(self, other: impl Into<Self>) -> Self::Bool;
    fn le(self, other: impl Into<Self>) -> Self::Bool;
    fn gt(self, other: impl Into<Self>) -> Self::Bool;
    fn ge(self, other: impl Into<Self>) -> Self::Bool;
}

macro_rules! native_language {
    ($($ty:ty)*) => {$(
        impl Language for $ty {
            type Bool = bool;
            fn eq(self, other: impl Into<Self>) -> bool { self == other.into() }
            fn ne(self, other: impl Into<Self>) -> bool { self != other.into() }
            fn lt(self, other: impl Into<Self>) -> bool { self < other.into() }
            fn le(self, other: impl Into<Self>) -> bool { self <= other.into() }
            fn gt(self, other: impl Into<Self>) -> bool { self > other.into() }
            fn ge(self, other: impl Into<Self>) -> bool { self >= other.into() }
        }
    )*};
}
native_language!(i32 u32 f32 bool);

impl Language for Symbol {
    type Bool = Symbol;
    fn eq(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Eq, other)
    }
    fn ne(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Ne, other)
    }
    fn lt(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Lt, other)
    }
    fn le(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Le, other)
    }
    fn gt(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Gt, other)
    }
    fn ge(self, other: impl Into<Self>) -> Symbol {
        self.binary(BinaryOp::Ge, other)
    }
}

/// `&&`, `||` and `if` with their laziness.
pub(crate) trait Condition: Copy {
    fn and_then(self, other: impl FnOnce() -> Self) -> Self;
    fn or_else(self, other: impl FnOnce() -> Self) -> Self;
    fn pick<T: Value<Self>>(self, accept: impl FnOnce() -> T, reject: impl FnOnce() -> T) -> T;
}

/// A value that a condition of type `C` chooses.
pub(crate) trait Value<C> {
    fn choose(condition: C, accept: impl FnOnce() -> Self, reject: impl FnOnce() -> Self) -> Self;
}

impl<T> Value<bool> for T {
    fn choose(condition: bool, accept: impl FnOnce() -> Self, reject: impl FnOnce() -> Self) -> Self {
        if condition { accept() } else { reject() }
    }
}

impl Value<Symbol> for Symbol {
    fn choose(condition: Symbol, accept: impl FnOnce() -> Self, reject: impl FnOnce() -> Self) -> Self {
        let (accept, reject) = (accept(), reject());
        Symbol(with(|builder| builder.select(condition.0, accept.0, reject.0)))
    }
}

impl Condition for bool {
    fn and_then(self, other: impl FnOnce() -> Self) -> Self {
        self && other()
    }
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        self || other()
    }
    fn pick<T: Value<Self>>(self, accept: impl FnOnce() -> T, reject: impl FnOnce() -> T) -> T {
        T::choose(self, accept, reject)
    }
}

impl Condition for Symbol {
    fn and_then(self, other: impl FnOnce() -> Self) -> Self {
        let other = other();
        Symbol(with(|builder| builder.and_then(self.0, other.0)))
    }
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        let other = other();
        Symbol(with(|builder| builder.or_else(self.0, other.0)))
    }
    fn pick<T: Value<Self>>(self, accept: impl FnOnce() -> T, reject: impl FnOnce() -> T) -> T {
        T::choose(self, accept, reject)
    }
}

/// `as`.
pub(crate) trait Casts {
    type I32;
    type U32;
    type F32;
    fn to_i32(self) -> Self::I32;
    fn to_u32(self) -> Self::U32;
    fn to_f32(self) -> Self::F32;
}

macro_rules! native_casts {
    ($($ty:ty)*) => {$(
        #[allow(clippy::unnecessary_cast)]
        impl Casts for $ty {
            type I32 = i32;
            type U32 = u32;
            type F32 = f32;
            fn to_i32(self) -> i32 { self as i32 }
            fn to_u32(self) -> u32 { self as u32 }
            fn to_f32(self) -> f32 { self as f32 }
        }
    )*};
}
native_casts!(i32 u32 f32);

impl Casts for Symbol {
    type I32 = Symbol;
    type U32 = Symbol;
    type F32 = Symbol;
    fn to_i32(self) -> Symbol {
        Symbol(with(|builder| builder.cast(Type::I32, self.0)))
    }
    fn to_u32(self) -> Symbol {
        Symbol(with(|builder| builder.cast(Type::U32, self.0)))
    }
    fn to_f32(self) -> Symbol {
        Symbol(with(|builder| builder.cast(Type::F32, self.0)))
    }
}

/// Indexing.
pub(crate) trait At<I, const N: usize> {
    type Item;
    fn at(&self, indices: [I; N]) -> Self::Item;
}

impl<T: CaptureElement, I: ViewIndex> At<I, 1> for View<'_, T, 1> {
    type Item = T;
    fn at(&self, [i]: [I; 1]) -> T {
        self[i]
    }
}

impl<T: CaptureElement, I: ViewIndex> At<I, 2> for View<'_, T, 2> {
    type Item = T;
    fn at(&self, indices: [I; 2]) -> T {
        self[indices]
    }
}

impl<const N: usize> At<Symbol, N> for SymbolicView {
    type Item = Symbol;
    fn at(&self, indices: [Symbol; N]) -> Symbol {
        Symbol(with(|builder| builder.load(self.0, &indices.map(|index| index.0))))
    }
}

/// `View::dim`.
pub(crate) trait Dim {
    type Len;
    fn length(&self, axis: usize) -> Self::Len;
}

impl<T, const N: usize> Dim for View<'_, T, N> {
    type Len = i32;
    fn length(&self, axis: usize) -> i32 {
        self.dim(axis)
    }
}

impl Dim for SymbolicView {
    type Len = Symbol;
    fn length(&self, axis: usize) -> Symbol {
        Symbol(with(|builder| builder.extent(self.0, axis as u8)))
    }
}

/// `{ let _ = first; then }`.
pub(crate) trait Then {
    fn then_value<T: Follows<Self>>(self, then: T) -> T
    where
        Self: Sized;
}

pub(crate) trait Follows<F> {
    fn after(first: F, then: Self) -> Self;
}

impl Follows<Symbol> for Symbol {
    fn after(first: Symbol, then: Self) -> Self {
        Symbol(with(|builder| builder.after(first.0, then.0)))
    }
}

impl<T> Follows<i32> for T {
    fn after(_: i32, then: Self) -> Self {
        then
    }
}

impl Then for i32 {
    fn then_value<T: Follows<Self>>(self, then: T) -> T {
        T::after(self, then)
    }
}

impl Then for Symbol {
    fn then_value<T: Follows<Self>>(self, then: T) -> T {
        T::after(self, then)
    }
}
