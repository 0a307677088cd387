//! What a marked function takes and gives, for its callers in mods.

use flex_core::ir::Type;

/// A parameter: a scalar, or a view of rank 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub(super) ty: Type,
    pub(super) rank: u8,
}

impl Parameter {
    pub const fn scalar(ty: Type) -> Self {
        Self { ty, rank: 0 }
    }

    pub const fn view(ty: Type, rank: u8) -> Self {
        Self { ty, rank }
    }
}

/// The head of a marked function.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    pub(super) name: &'static str,
    pub(super) parameters: &'static [Parameter],
    result: Type,
}

impl Signature {
    pub const fn new(name: &'static str, parameters: &'static [Parameter], result: Type) -> Self {
        Self { name, parameters, result }
    }

    pub fn result(&self) -> Type {
        self.result
    }

    /// The type of a parameter; rustc has checked that there is one.
    pub fn parameter(&self, position: usize) -> Type {
        self.parameters.get(position).map_or(Type::I32, |p| p.ty)
    }
}
