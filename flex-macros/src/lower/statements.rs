//! Statements, and the variables that they rename.

use proc_macro2::Ident;

use super::Lower;
use super::faults::{divides, may_fault};
use crate::ast::{Block, Stmt, VarId};

impl Lower<'_> {
    pub(super) fn block(&mut self, block: &Block) -> Option<Ident> {
        for stmt in &block.stmts {
            self.stmt(stmt);
        }
        block.tail.as_ref().and_then(|tail| self.expr(tail))
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { var, init } => {
                let node = self.value(init);
                self.assign(*var, node, may_fault(init));
            }
            Stmt::Discard { value, .. } => {
                if let Some(node) = self.expr(value)
                    && may_fault(value)
                {
                    self.keep(&node);
                }
            }
            Stmt::Assign { var, op, value, .. } => {
                let node = self.value(value);
                let Some((op, _)) = op else { return self.assign(*var, node, may_fault(value)) };
                let old = self.current[var].clone();
                let node = self.join(op.names().1, &old, &node);
                self.assign(*var, node, may_fault(value) || divides(*op));
            }
            Stmt::For(each) => self.for_loop(each),
        }
    }

    fn assign(&mut self, var: VarId, node: Ident, may_fault: bool) {
        if may_fault {
            self.keep(&node);
        }
        self.current.insert(var, node);
    }
}
