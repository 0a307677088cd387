//! Makes expressions: unique nodes, checked types.

use std::collections::HashMap;

use super::{BinaryOp, CaptureDecl, CaptureId, Expr, Indices, Input, Node, NodeId, Scalar, Type, UnaryOp};

/// Why an expression could not be built. Mods written with the macros never get here: rustc has checked their types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// An operation got a type it is not defined on.
    #[error("`{operation}` is not defined on {got}; expected {expected}")]
    WrongType {
        /// The operation, as in the textual form.
        operation: String,
        /// What it takes.
        expected: &'static str,
        /// The type it got.
        got: Type,
    },
    /// Two operands that must agree do not.
    #[error("`{operation}` needs two values of one type, got {left} and {right}")]
    Mismatch {
        /// The operation, as in the textual form.
        operation: String,
        /// The left (or first) type.
        left: Type,
        /// The right (or second) type.
        right: Type,
    },
    /// A load with the wrong number of indices, or of a scalar.
    #[error("capture `{name}` has rank {rank} but is indexed with {got} indices")]
    WrongRank {
        /// The capture.
        name: String,
        /// Its rank.
        rank: u8,
        /// How many indices there were.
        got: usize,
    },
    /// A view was used as a scalar.
    #[error("capture `{name}` is a view of rank {rank}, expected a scalar: index it")]
    NotAScalar {
        /// The capture.
        name: String,
        /// Its rank.
        rank: u8,
    },
    /// A capture's rank is over 4.
    #[error("capture `{name}` has rank {rank}; views have rank 1 to 4")]
    UnsupportedRank {
        /// The capture.
        name: String,
        /// Its rank.
        rank: u8,
    },
    /// An id that this builder did not make.
    #[error("node or capture {0} does not exist in this expression")]
    UnknownId(u32),
    /// A called mod or function got the wrong number of arguments, or a view where it takes a value.
    #[error("`{function}` takes {expected}, got {got}")]
    WrongArguments {
        /// The called function.
        function: String,
        /// What it takes.
        expected: String,
        /// What it got.
        got: String,
    },
}

/// An argument of a call between mods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A computed value.
    Value(NodeId),
    /// A whole captured view.
    View(CaptureId),
}

impl From<NodeId> for Arg {
    fn from(id: NodeId) -> Self {
        Self::Value(id)
    }
}

impl From<CaptureId> for Arg {
    fn from(id: CaptureId) -> Self {
        Self::View(id)
    }
}

/// Builds one [`Expr`].
///
/// The methods always return an id; the first mistake is kept and returned by [`finish`](Self::finish). So generated
/// code reads as straight-line construction.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    types: Vec<Type>,
    captures: Vec<CaptureDecl>,
    unique: HashMap<Node, NodeId>,
    error: Option<BuildError>,
}

impl Builder {
    /// A builder with no nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with no nodes, and the captures of another expression under their ids.
    pub fn with_captures(captures: &[CaptureDecl]) -> Self {
        let mut builder = Self::new();
        for CaptureDecl { name, ty, rank } in captures {
            builder.declare(name.clone(), *ty, *rank);
        }
        builder
    }

    /// Declares a captured scalar (`rank` 0) or view (`rank` 1–4).
    pub fn declare(&mut self, name: impl Into<String>, ty: Type, rank: u8) -> CaptureId {
        let name = name.into();
        if rank > 4 {
            self.fail(BuildError::UnsupportedRank { name: name.clone(), rank });
        }
        self.captures.push(CaptureDecl { name, ty, rank });
        CaptureId(self.captures.len() as u32 - 1)
    }

    /// The type of a node.
    pub fn ty(&self, id: NodeId) -> Type {
        self.types.get(id.index()).copied().unwrap_or(Type::I32)
    }

    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The declaration of a capture.
    pub fn capture_decl(&self, id: CaptureId) -> Option<&CaptureDecl> {
        self.captures.get(id.index())
    }

    /// The constant behind an id, if it is one.
    pub fn as_const(&self, id: NodeId) -> Option<Scalar> {
        match self.nodes.get(id.index()) {
            Some(Node::Const(value)) => Some(*value),
            _ => None,
        }
    }

    /// A constant.
    pub fn constant(&mut self, value: impl Into<Scalar>) -> NodeId {
        let value = value.into();
        self.intern(Node::Const(value), value.ty())
    }

    /// One of b, h, q, kv, score.
    pub fn input(&mut self, input: Input) -> NodeId {
        self.intern(Node::Input(input), input.ty())
    }

    /// The value of a captured scalar.
    pub fn capture(&mut self, id: CaptureId) -> NodeId {
        let Some(decl) = self.captures.get(id.index()) else { return self.fail(BuildError::UnknownId(id.0)) };
        let (ty, rank) = (decl.ty, decl.rank);
        if rank != 0 {
            let name = decl.name.clone();
            return self.fail(BuildError::NotAScalar { name, rank });
        }
        self.intern(Node::Capture(id), ty)
    }

    /// The length of one axis of a captured view, an i32.
    pub fn extent(&mut self, id: CaptureId, axis: u8) -> NodeId {
        let Some(decl) = self.captures.get(id.index()) else { return self.fail(BuildError::UnknownId(id.0)) };
        if axis >= decl.rank {
            let (name, rank) = (decl.name.clone(), decl.rank);
            return self.fail(BuildError::WrongRank { name, rank, got: usize::from(axis) + 1 });
        }
        self.intern(Node::Extent(id, axis), Type::I32)
    }

    /// One element of a captured view; indices are i32 or u32, one an axis.
    pub fn load(&mut self, id: CaptureId, indices: &[NodeId]) -> NodeId {
        let Some(decl) = self.captures.get(id.index()) else { return self.fail(BuildError::UnknownId(id.0)) };
        let (ty, rank) = (decl.ty, decl.rank);
        let list = match Indices::new(indices) {
            Some(list) if usize::from(rank) == indices.len() => list,
            _ => {
                let name = decl.name.clone();
                return self.fail(BuildError::WrongRank { name, rank, got: indices.len() });
            }
        };
        for &index in indices {
            if !self.ty(index).is_integer() {
                return self.wrong_type("index", "i32 or u32", index);
            }
        }
        self.intern(Node::Load(id, list), ty)
    }

    /// An operation on one value.
    pub fn unary(&mut self, op: UnaryOp, x: NodeId) -> NodeId {
        use UnaryOp::*;
        let ty = self.ty(x);
        let (ok, expected) = match op {
            Neg | Abs | Signum => (matches!(ty, Type::I32 | Type::F32), "i32 or f32"),
            Not => (ty != Type::F32, "bool, i32 or u32"),
            CountOnes | LeadingZeros | TrailingZeros => (ty.is_integer(), "i32 or u32"),
            _ => (ty == Type::F32, "f32"),
        };
        if !ok {
            return self.wrong_type(op.name(), expected, x);
        }
        let result = match op {
            IsNan => Type::Bool,
            CountOnes | LeadingZeros | TrailingZeros => Type::U32,
            _ => ty,
        };
        self.intern(Node::Unary(op, x), result)
    }

    /// An operation on two values, both always evaluated.
    pub fn binary(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        use BinaryOp::*;
        let (left, right) = (self.ty(a), self.ty(b));
        let shift = matches!(op, Shl | Shr);
        if shift && !right.is_integer() {
            return self.wrong_type(op.name(), "an integer amount", b);
        }
        if !shift && left != right {
            return self.fail(BuildError::Mismatch { operation: op.name().into(), left, right });
        }
        let (ok, expected) = match op {
            Add | Sub | Mul | Div | Rem | Min | Max => (left.is_number(), "i32, u32 or f32"),
            DivEuclid | RemEuclid | Shl | Shr => (left.is_integer(), "i32 or u32"),
            Pow => (left == Type::F32, "f32"),
            And | Or | Xor => (left != Type::F32, "bool, i32 or u32"),
            Eq | Ne | Lt | Le | Gt | Ge => (true, ""),
        };
        if !ok {
            return self.wrong_type(op.name(), expected, a);
        }
        let result = if op.is_comparison() { Type::Bool } else { left };
        self.intern(Node::Binary(op, a, b), result)
    }

    /// `if condition { accept } else { reject }`.
    pub fn select(&mut self, condition: NodeId, accept: NodeId, reject: NodeId) -> NodeId {
        if self.ty(condition) != Type::Bool {
            return self.wrong_type("if", "a bool condition", condition);
        }
        let (left, right) = (self.ty(accept), self.ty(reject));
        if left != right {
            return self.fail(BuildError::Mismatch { operation: "if/else".into(), left, right });
        }
        self.intern(Node::Select { condition, accept, reject }, left)
    }

    /// `a && b`: `b` is evaluated only where `a` holds.
    pub fn and_then(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let no = self.constant(false);
        self.select(a, b, no)
    }

    /// `a || b`: `b` is evaluated only where `a` does not hold.
    pub fn or_else(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let yes = self.constant(true);
        self.select(a, yes, b)
    }

    /// Rust's `as`.
    pub fn cast(&mut self, ty: Type, x: NodeId) -> NodeId {
        let from = self.ty(x);
        if from == ty {
            return x;
        }
        if ty == Type::Bool {
            return self.wrong_type("as bool", "bool (compare with 0 instead)", x);
        }
        if from == Type::Bool && ty == Type::F32 {
            return self.wrong_type("as f32", "a number (cast to i32 first)", x);
        }
        self.intern(Node::Cast(ty, x), ty)
    }

    /// Evaluates `first` for its faults, then has the value of `then`. Nothing is added where `first` cannot fault.
    pub fn after(&mut self, first: NodeId, then: NodeId) -> NodeId {
        if !self.may_fault(first) || first == then {
            return then;
        }
        let ty = self.ty(then);
        self.intern(Node::After { first, then }, ty)
    }

    /// A node whose operands this builder made, type-checked like the others; an [`Node::After`] is kept as it is.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        match node {
            Node::Const(value) => self.constant(value),
            Node::Input(input) => self.input(input),
            Node::Capture(id) => self.capture(id),
            Node::Extent(id, axis) => self.extent(id, axis),
            Node::Load(id, indices) => self.load(id, indices.as_slice()),
            Node::Unary(op, x) => self.unary(op, x),
            Node::Binary(op, a, b) => self.binary(op, a, b),
            Node::Select { condition, accept, reject } => self.select(condition, accept, reject),
            Node::Cast(ty, x) => self.cast(ty, x),
            Node::After { then, .. } => self.intern(node, self.ty(then)),
        }
    }

    /// The first mistake so far.
    pub(crate) fn error(&self) -> Option<&BuildError> {
        self.error.as_ref()
    }

    /// Copies `expr` into this expression with its inputs and captures replaced; returns its root here.
    ///
    /// `inputs` gives the values of b, h, q, kv and score; `captures` the captures of this builder that stand for the
    /// expression's own, of the same type and rank.
    pub fn inline(&mut self, expr: &Expr, inputs: [NodeId; 5], captures: &[CaptureId]) -> NodeId {
        let declared = |id: &CaptureId| self.captures.get(id.index()).map(|d| (d.ty, d.rank));
        let fits = captures.len() == expr.captures.len()
            && captures.iter().zip(&expr.captures).all(|(id, own)| declared(id) == Some((own.ty, own.rank)));
        if !fits {
            return self.fail(BuildError::WrongArguments {
                function: "inline".into(),
                expected: format!("{} captures of the declared types", expr.captures.len()),
                got: format!("{} captures", captures.len()),
            });
        }
        let mut here: Vec<NodeId> = Vec::with_capacity(expr.nodes.len());
        for (node, &ty) in expr.nodes.iter().zip(&expr.types) {
            let id = match *node {
                Node::Input(input) => {
                    let value = inputs[input as usize];
                    if self.ty(value) != ty {
                        return self.wrong_type(input.name(), input.ty().name(), value);
                    }
                    value
                }
                Node::Capture(id) => self.intern(Node::Capture(captures[id.index()]), ty),
                Node::Extent(id, axis) => self.intern(Node::Extent(captures[id.index()], axis), ty),
                Node::Load(id, list) => {
                    self.intern(Node::Load(captures[id.index()], list.map(|i| here[i.index()])), ty)
                }
                other => self.intern(other.map_operands(|i| here[i.index()]), ty),
            };
            here.push(id);
        }
        here[expr.root.index()]
    }

    /// The expression with the given root, of the nodes that the root needs.
    ///
    /// # Errors
    /// The first mistake made on the way.
    pub fn finish(self, root: NodeId) -> Result<Expr, BuildError> {
        self.finish_with(root, &[]).map(|(expr, _)| expr)
    }

    /// Like [`finish`](Self::finish), but keeps what `outputs` need too: several values in one arena. Returns the
    /// outputs' ids in it.
    ///
    /// # Errors
    /// The first mistake made on the way, or an id that this builder did not make.
    pub fn finish_with(self, root: NodeId, outputs: &[NodeId]) -> Result<(Expr, Vec<NodeId>), BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut needed = vec![false; self.nodes.len()];
        for &id in outputs.iter().chain([&root]) {
            *needed.get_mut(id.index()).ok_or(BuildError::UnknownId(id.0))? = true;
        }
        for i in (0..needed.len()).rev() {
            if needed[i] {
                self.nodes[i].for_each_operand(|x| needed[x.index()] = true);
            }
        }
        let mut moved = vec![NodeId(0); needed.len()];
        let (mut nodes, mut types) = (Vec::new(), Vec::new());
        for (i, _) in needed.iter().enumerate().filter(|(_, keep)| **keep) {
            moved[i] = NodeId(nodes.len() as u32);
            nodes.push(self.nodes[i].map_operands(|x| moved[x.index()]));
            types.push(self.types[i]);
        }
        let expr = Expr { nodes, types, captures: self.captures, root: moved[root.index()] };
        Ok((expr, outputs.iter().map(|id| moved[id.index()]).collect()))
    }

    /// Keeps the first mistake; the id returned stands for a value that is never used.
    pub fn fail(&mut self, error: BuildError) -> NodeId {
        self.error.get_or_insert(error);
        self.intern(Node::Const(Scalar::I32(0)), Type::I32)
    }

    fn wrong_type(&mut self, operation: &str, expected: &'static str, x: NodeId) -> NodeId {
        let got = self.ty(x);
        self.fail(BuildError::WrongType { operation: operation.into(), expected, got })
    }

    fn intern(&mut self, node: Node, ty: Type) -> NodeId {
        if let Some(&id) = self.unique.get(&node) {
            return id;
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        self.types.push(ty);
        self.unique.insert(node, id);
        id
    }

    fn may_fault(&self, root: NodeId) -> bool {
        let mut seen = vec![false; root.index() + 1];
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            match self.nodes[id.index()] {
                Node::Load(..) => return true,
                Node::Binary(op, _, divisor) if op.is_division() && self.ty(divisor).is_integer() => {
                    match self.as_const(divisor) {
                        Some(value) if value.bits() != 0 => {}
                        _ => return true,
                    }
                }
                _ => {}
            }
            self.nodes[id.index()].for_each_operand(|x| open.push(x));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_nodes_are_one_node() {
        let mut b = Builder::new();
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let first = b.binary(BinaryOp::Sub, q, kv);
        let second = b.binary(BinaryOp::Sub, q, kv);
        assert_eq!(first, second);
    }

    #[test]
    fn the_first_mistake_is_reported() {
        let mut b = Builder::new();
        let (q, score) = (b.input(Input::Query), b.input(Input::Score));
        let sum = b.binary(BinaryOp::Add, q, score);
        let root = b.unary(UnaryOp::Sqrt, sum);
        let error = b.finish(root).unwrap_err();
        assert_eq!(
            error,
            BuildError::Mismatch { operation: "add".into(), left: Type::I32, right: Type::F32 }
        );
    }

    #[test]
    fn finish_keeps_only_what_the_root_needs() {
        let mut b = Builder::new();
        let q = b.input(Input::Query);
        let kv = b.input(Input::Key);
        b.binary(BinaryOp::Mul, q, kv);
        let root = b.binary(BinaryOp::Ge, q, kv);
        assert_eq!(b.finish(root).unwrap().nodes().len(), 3);
    }

    #[test]
    fn after_is_kept_only_for_what_may_fault() {
        let mut b = Builder::new();
        let doc = b.declare("doc", Type::I32, 1);
        let q = b.input(Input::Query);
        let plain = b.binary(BinaryOp::Add, q, q);
        let load = b.load(doc, &[q]);
        assert_eq!(b.after(plain, q), q);
        assert_ne!(b.after(load, q), q);
    }
}
