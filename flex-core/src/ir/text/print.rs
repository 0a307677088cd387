//! Expression to text.

use std::fmt::{Display, Formatter, Result, Write};

use crate::ir::{CaptureDecl, CaptureId, Expr, Node, NodeId};

impl Display for NodeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for CaptureId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "@{}", self.0)
    }
}

impl Display for CaptureDecl {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        name(&self.name, f)?;
        match self.rank {
            0 => write!(f, ": {}", self.ty),
            rank => write!(f, ": View<{}, {rank}>", self.ty),
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Const(value) => write!(f, "{value}"),
            Self::Input(input) => f.write_str(input.name()),
            Self::Capture(id) => write!(f, "{id}"),
            Self::Extent(id, axis) => write!(f, "len {id}, {axis}"),
            Self::Load(id, indices) => {
                write!(f, "load {id}[")?;
                for (i, index) in indices.as_slice().iter().enumerate() {
                    write!(f, "{}{index}", if i == 0 { "" } else { ", " })?;
                }
                f.write_char(']')
            }
            Self::Unary(op, x) => write!(f, "{} {x}", op.name()),
            Self::Binary(op, a, b) => write!(f, "{} {a}, {b}", op.name()),
            Self::Select { condition, accept, reject } => write!(f, "select {condition}, {accept}, {reject}"),
            Self::Cast(ty, x) => write!(f, "cast {ty} {x}"),
            Self::After { first, then } => write!(f, "after {first}, {then}"),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (i, decl) in self.captures().iter().enumerate() {
            writeln!(f, "capture @{i} = {decl}")?;
        }
        for id in self.ids() {
            writeln!(f, "{id} = {}", self.node(id))?;
        }
        writeln!(f, "return {}", self.root())
    }
}

pub(super) fn is_identifier(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|c| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// An identifier as it is; any other name in quotes, with everything but plain ASCII escaped by its number.
fn name(name: &str, f: &mut Formatter<'_>) -> Result {
    if is_identifier(name) {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\u{{{:x}}}", c as u32)?,
            ' '..='~' => f.write_char(c)?,
            _ => write!(f, "\\u{{{:x}}}", c as u32)?,
        }
    }
    f.write_char('"')
}
