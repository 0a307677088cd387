//! Expressions lowered to instructions, once for all threads and calls.

use std::sync::{Arc, OnceLock};

use super::bias::BiasProgram;
use super::bounds::{self, Limits};
use super::compile::{self, Code, SCORE};
use super::instr::{Instr, Op, Operand};
use super::soft_cap::SoftCap;
use crate::ir::Type;
use crate::mods::BoundExpr;

/// A bound expression ready to be evaluated by rows. Made once, shared by threads.
#[derive(Clone, Debug)]
pub struct RowProgram {
    pub(super) bound: BoundExpr,
    pub(super) code: Arc<Code>,
    /// Comparisons of kv, and of other values of the key, with values of the row that say all of a mask.
    pub(super) limits: Arc<Option<Limits>>,
    bias: Arc<Option<BiasProgram>>,
}

/// The instructions of an expression, without and with checks for faults, once they were asked for.
#[derive(Debug, Default)]
pub(crate) struct LoweredOnce([OnceLock<Lowered>; 2]);

type Lowered = (Arc<Code>, Arc<Option<Limits>>, Arc<Option<BiasProgram>>);

impl RowProgram {
    /// Lowers the expression of a mask or score mod.
    pub fn new(bound: &BoundExpr) -> Self {
        Self::lower(bound, true)
    }

    /// Lowers an expression that is proved not to fault at any point it will be evaluated at, and so needs no checks.
    /// At other points the values mean nothing, but are safe to compute.
    pub fn proved(bound: &BoundExpr) -> Self {
        Self::lower(bound, false)
    }

    fn lower(bound: &BoundExpr, tell_faults: bool) -> Self {
        let lower = || {
            let mut code = compile::compile(bound, tell_faults);
            let limits = bounds::limits(bound.expr(), &code);
            code.drop_unused(limits.iter().flat_map(Limits::operands));
            code.fuse();
            if bound.expr().result_type() == Type::F32 {
                code.fuse_soft_caps();
            }
            code.find_last();
            (code.into(), limits.into(), BiasProgram::of(bound).into())
        };
        let (code, limits, bias) = bound.lowered().0[usize::from(tell_faults)].get_or_init(lower).clone();
        Self { bound: bound.clone(), code, limits, bias }
    }

    /// The expression.
    pub fn bound(&self) -> &BoundExpr {
        &self.bound
    }

    /// The bias that is all there is to a score mod, if it is one.
    pub(crate) fn bias(&self) -> Option<&BiasProgram> {
        (*self.bias).as_ref()
    }

    /// The cap that is all there is to a score mod, if it is one, the same everywhere.
    pub(crate) fn soft_cap(&self) -> Option<SoftCap> {
        match *self.code.element {
            [Instr { op: Op::SoftCap, a, b: Operand::Const(divisor), c: Operand::Const(cap), .. }]
                if a == Operand::Element(SCORE) && self.code.last == Some(0) && !self.may_fault() =>
            {
                Some(SoftCap::new(f32::from_bits(divisor), f32::from_bits(cap)))
            }
            _ => None,
        }
    }

    /// Whether some point could fault.
    pub fn may_fault(&self) -> bool {
        self.code.fault.is_some()
    }
}
