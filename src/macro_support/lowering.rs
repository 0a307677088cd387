//! The state of one body while its expression is built.

use std::collections::HashSet;

use flex_core::ir::{Arg, BinaryOp, BuildError, Builder, CaptureId, Node, NodeId, Scalar, Type, UnaryOp};

use super::Signature;

/// Builds the body of a mod: a thin layer over [`Builder`] that keeps what Rust would evaluate.
///
/// An expression is evaluated where its value is needed, but Rust evaluates every `let`. So each scope (the body, a
/// branch) keeps the nodes whose faults must happen whether or not their values are used, and its result carries them.
pub struct Lowering<'b> {
    pub(super) builder: &'b mut Builder,
    arguments: Vec<Arg>,
    scopes: Vec<Vec<NodeId>>,
}

impl<'b> Lowering<'b> {
    pub fn new(builder: &'b mut Builder, arguments: &[Arg]) -> Self {
        Self { builder, arguments: arguments.to_vec(), scopes: vec![Vec::new()] }
    }

    /// For a marked function, which may get wrong arguments where no macro has checked them.
    pub fn of_call(builder: &'b mut Builder, signature: &Signature, arguments: &[Arg]) -> Self {
        let got: Vec<Option<(Type, u8)>> = arguments
            .iter()
            .map(|argument| match *argument {
                Arg::Value(id) => Some((builder.ty(id), 0)),
                Arg::View(id) => builder.capture_decl(id).map(|decl| (decl.ty, decl.rank)),
            })
            .collect();
        let expected: Vec<_> = signature.parameters.iter().map(|p| Some((p.ty, p.rank))).collect();
        if got == expected {
            return Self::new(builder, arguments);
        }
        let describe = |list: &[Option<(Type, u8)>]| {
            let list: Vec<String> = list
                .iter()
                .map(|one| match one {
                    Some((ty, 0)) => ty.to_string(),
                    Some((ty, rank)) => format!("View<{ty}, {rank}>"),
                    None => "an unknown capture".into(),
                })
                .collect();
            format!("({})", list.join(", "))
        };
        let (expected_text, got) = (describe(&expected), describe(&got));
        builder.fail(BuildError::WrongArguments {
            function: signature.name.into(),
            expected: expected_text,
            got,
        });
        // Arguments of the right types, so that the body can still be walked.
        let arguments: Vec<Arg> = signature
            .parameters
            .iter()
            .map(|p| match p.rank {
                0 => Arg::Value(builder.constant(Scalar::zero(p.ty))),
                rank => Arg::View(builder.declare("missing", p.ty, rank)),
            })
            .collect();
        Self::new(builder, &arguments)
    }

    /// The scalar in this place of the arguments.
    pub fn value(&mut self, position: usize) -> NodeId {
        match self.arguments.get(position) {
            Some(&Arg::Value(id)) => id,
            Some(&Arg::View(id)) => self.builder.capture(id),
            None => self.builder.fail(BuildError::UnknownId(position as u32)),
        }
    }

    /// The view in this place of the arguments.
    pub fn view(&mut self, position: usize) -> CaptureId {
        match self.arguments.get(position) {
            Some(&Arg::View(id)) => id,
            _ => {
                self.builder.fail(BuildError::UnknownId(position as u32));
                CaptureId(0)
            }
        }
    }

    /// The scalar or view in this place of the arguments.
    pub fn argument(&mut self, position: usize) -> Arg {
        match self.arguments.get(position) {
            Some(argument) => *argument,
            None => Arg::Value(self.builder.fail(BuildError::UnknownId(position as u32))),
        }
    }

    pub fn type_of(&self, x: NodeId) -> Type {
        self.builder.ty(x)
    }

    pub fn element_type(&self, view: CaptureId) -> Type {
        self.builder.capture_decl(view).map_or(Type::I32, |decl| decl.ty)
    }

    pub fn constant(&mut self, value: impl Into<Scalar>) -> NodeId {
        self.builder.constant(value)
    }

    /// An integer literal of a type that is only known now.
    pub fn literal(&mut self, ty: Type, value: i64) -> NodeId {
        match ty {
            Type::U32 => self.builder.constant(value as u32),
            Type::F32 => self.builder.constant(value as f32),
            Type::I32 | Type::Bool => self.builder.constant(value as i32),
        }
    }

    pub fn unary(&mut self, op: UnaryOp, x: NodeId) -> NodeId {
        self.builder.unary(op, x)
    }

    pub fn binary(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        self.builder.binary(op, a, b)
    }

    pub fn cast(&mut self, ty: Type, x: NodeId) -> NodeId {
        self.builder.cast(ty, x)
    }

    pub fn select(&mut self, condition: NodeId, accept: NodeId, reject: NodeId) -> NodeId {
        if accept == reject {
            return self.builder.after(condition, accept);
        }
        self.builder.select(condition, accept, reject)
    }

    pub fn load(&mut self, view: CaptureId, indices: &[NodeId]) -> NodeId {
        self.builder.load(view, indices)
    }

    pub fn extent(&mut self, view: CaptureId, axis: u8) -> NodeId {
        self.builder.extent(view, axis)
    }

    /// Calls another mod's build function. The macros see to it that calls come to an end.
    pub fn call(&mut self, arguments: &[Arg], build: impl FnOnce(&mut Builder, &[Arg]) -> NodeId) -> NodeId {
        build(self.builder, arguments)
    }

    /// Keeps a node's faults in this scope.
    pub fn keep(&mut self, x: NodeId) {
        self.scopes.last_mut().expect("a body has a scope").push(x);
    }

    /// Opens the scope of a branch.
    pub fn enter(&mut self) {
        self.scopes.push(Vec::new());
    }

    /// Closes the scope of a branch with one result, which carries what was kept.
    pub fn leave_with(&mut self, value: NodeId) -> NodeId {
        let kept = self.scopes.pop().unwrap_or_default();
        self.sequence(&kept, &[value], value)
    }

    /// Closes the scope of a branch with several results: what they do not evaluate themselves is carried by the bool
    /// that is returned.
    pub fn leave(&mut self, results: &[NodeId]) -> NodeId {
        let kept = self.scopes.pop().unwrap_or_default();
        let nothing = self.builder.constant(true);
        self.sequence(&kept, results, nothing)
    }

    /// Keeps what one of two branches has left behind.
    pub fn keep_either(&mut self, condition: NodeId, accepted: NodeId, rejected: NodeId) {
        let either = self.select(condition, accepted, rejected);
        self.keep(either);
    }

    /// The value of the body.
    pub fn finish(&mut self, value: NodeId) -> NodeId {
        self.leave_with(value)
    }

    /// `value` after all kept nodes whose faults are not among those of `results`.
    fn sequence(&mut self, kept: &[NodeId], results: &[NodeId], value: NodeId) -> NodeId {
        let mut covered = HashSet::new();
        for &result in results {
            self.always_evaluated(result, &mut covered);
        }
        let mut value = value;
        for &first in kept.iter().rev() {
            let mut own = HashSet::new();
            self.always_evaluated(first, &mut own);
            let news = own.iter().any(|&node| self.can_fault(node) && !covered.contains(&node));
            if news {
                value = self.builder.after(first, value);
                covered.extend(own);
            }
        }
        value
    }

    /// The nodes that are evaluated whenever `root` is: everything but what stands behind a condition.
    fn always_evaluated(&self, root: NodeId, seen: &mut HashSet<NodeId>) {
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.builder.node(id) {
                Some(Node::Select { condition, .. }) => open.push(*condition),
                Some(node) => node.for_each_operand(|operand| open.push(operand)),
                None => {}
            }
        }
    }

    /// Whether this very node may fault, or decides over others that may.
    fn can_fault(&self, id: NodeId) -> bool {
        match self.builder.node(id) {
            Some(Node::Load(..) | Node::Select { .. }) => true,
            Some(Node::Binary(op, _, divisor)) => op.is_division() && self.builder.ty(*divisor).is_integer(),
            _ => false,
        }
    }
}

/// What a named constant in a mod may be: f32, i32, u32 or bool.
#[diagnostic::on_unimplemented(
    message = "a mod cannot use a constant of type `{Self}`",
    label = "expected f32, i32, u32 or bool",
    note = "write another constant of one of these types, such as `const N: i32 = OTHER as i32;`"
)]
pub trait ConstantValue {
    /// The value in the language of mods.
    #[doc(hidden)]
    fn scalar(self) -> Scalar;
}

macro_rules! constant_values {
    ($($native:ty)*) => {$(
        impl ConstantValue for $native {
            fn scalar(self) -> Scalar {
                self.into()
            }
        }
    )*};
}
constant_values!(f32 i32 u32 bool);
