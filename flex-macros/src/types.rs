//! Types and their unification.
//!
//! Numbers without a suffix take the type that their surroundings give them, as in Rust. What a closure captures, what
//! a constant is and what a called function takes and returns is not written in the mod: such a type is unknown here,
//! checked by rustc, and asked for when the mod is built. Its source tells how to ask.

use crate::ast::VarId;

/// A type of the language of mods, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    Bool,
    I32,
    U32,
    F32,
    Unit,
}

impl Ty {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "i32" => Self::I32,
            "u32" => Self::U32,
            "f32" => Self::F32,
            _ => return None,
        })
    }

    /// The name in Rust.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::F32 => "f32",
            Self::Unit => "()",
        }
    }

    /// The name of the variant of the IR's type.
    pub(crate) fn variant(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::I32 => "I32",
            Self::U32 => "U32",
            Self::F32 => "F32",
            Self::Unit => unreachable!("a block without a value makes no node"),
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::U32)
    }
}

/// Who knows a type that is not written in the mod.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A captured scalar, or the elements of a captured view.
    Capture(VarId),
    /// A constant.
    Constant(syn::Path),
    /// The result of a called function.
    Result(syn::Path),
    /// A parameter of a called function.
    Parameter(syn::Path, usize),
}

/// A type that may still be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TyVar(usize);

/// What is known of a type.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Is(Ty),
    /// An integer literal's: i32 unless something else is found out.
    Integer(Option<Source>),
    /// A float literal's.
    Float(Option<Source>),
    /// Nothing yet.
    Unknown(Option<Source>),
    /// Part of a mistake that was reported: fits everything.
    Mistake,
}

impl Known {
    /// How messages call the type.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Is(Ty::Unit) => "no value".into(),
            Self::Is(ty) => format!("`{}`", ty.name()),
            Self::Integer(_) => "an integer".into(),
            Self::Float(_) => "a float".into(),
            Self::Unknown(_) | Self::Mistake => "an unknown type".into(),
        }
    }

    fn source(&self) -> Option<&Source> {
        match self {
            Self::Integer(source) | Self::Float(source) | Self::Unknown(source) => source.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Slot {
    Same(TyVar),
    Known(Known),
}

/// All types of one body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types(Vec<Slot>);

impl Types {
    /// A new type of which something is known.
    pub(crate) fn fresh(&mut self, known: Known) -> TyVar {
        self.0.push(Slot::Known(known));
        TyVar(self.0.len() - 1)
    }

    /// A new type that is known.
    pub(crate) fn is(&mut self, ty: Ty) -> TyVar {
        self.fresh(Known::Is(ty))
    }

    /// What is known by now.
    pub(crate) fn known(&self, var: TyVar) -> &Known {
        match &self.0[self.root(var).0] {
            Slot::Known(known) => known,
            Slot::Same(_) => unreachable!("roots are no links"),
        }
    }

    /// The type, if it is known.
    pub(crate) fn get(&self, var: TyVar) -> Option<Ty> {
        match self.known(var) {
            Known::Is(ty) => Some(*ty),
            _ => None,
        }
    }

    /// Makes two types one. On a contradiction nothing changes and false is returned.
    pub(crate) fn unify(&mut self, a: TyVar, b: TyVar) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return true;
        }
        let Some(joined) = join(self.known(a), self.known(b)) else { return false };
        self.0[a.0] = Slot::Known(joined);
        self.0[b.0] = Slot::Same(a);
        true
    }

    /// Makes a number that is part of a reported mistake fit everything, so that it is not reported again.
    pub(crate) fn give_up(&mut self, var: TyVar) {
        let root = self.root(var);
        if matches!(self.known(root), Known::Integer(_) | Known::Float(_)) {
            self.0[root.0] = Slot::Known(Known::Mistake);
        }
    }

    fn root(&self, mut var: TyVar) -> TyVar {
        while let Slot::Same(next) = &self.0[var.0] {
            var = *next;
        }
        var
    }
}

fn join(a: &Known, b: &Known) -> Option<Known> {
    let source = || a.source().or(b.source()).cloned();
    Some(match (a, b) {
        (Known::Mistake, _) | (_, Known::Mistake) => Known::Mistake,
        (Known::Is(x), Known::Is(y)) => return (x == y).then_some(Known::Is(*x)),
        (Known::Is(x), Known::Unknown(_)) | (Known::Unknown(_), Known::Is(x)) => Known::Is(*x),
        (Known::Is(x), Known::Integer(_)) | (Known::Integer(_), Known::Is(x)) => {
            return x.is_integer().then_some(Known::Is(*x));
        }
        (Known::Is(x), Known::Float(_)) | (Known::Float(_), Known::Is(x)) => {
            return (*x == Ty::F32).then_some(Known::Is(*x));
        }
        (Known::Integer(_), Known::Float(_)) | (Known::Float(_), Known::Integer(_)) => return None,
        (Known::Integer(_), _) | (_, Known::Integer(_)) => Known::Integer(source()),
        (Known::Float(_), _) | (_, Known::Float(_)) => Known::Float(source()),
        (Known::Unknown(_), Known::Unknown(_)) => Known::Unknown(source()),
    })
}
