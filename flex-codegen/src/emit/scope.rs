//! The body of one generated function: nodes become `const` variables, or parts of the expressions that use them.

use flex_core::ir::{BinaryOp, CaptureId, Input, Node, NodeId, Scalar, Type};

use super::code::ModCode;
use super::position_sum::PositionSum;
use super::text::{self, Text};

/// Longer expressions get a variable, so that a line stays readable.
const LONGEST_INLINE: usize = 60;

/// The body of a function that computes some nodes of a mod.
pub(super) struct Scope<'a> {
    code: &'a ModCode<'a>,
    lines: String,
    values: Vec<Option<Text>>,
    /// Names of `long long` variables: 0, or a fault.
    faults: Vec<Option<String>>,
    /// Whether positions are given as `Index`.
    indices: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(code: &'a ModCode<'a>) -> Self {
        let len = code.expr.nodes().len();
        Self { code, lines: String::new(), values: vec![None; len], faults: vec![None; len], indices: false }
    }

    /// The body of a function whose positions may be of type `Index`.
    pub(super) fn of_elements(code: &'a ModCode<'a>, indices: bool) -> Self {
        Self { indices, ..Self::new(code) }
    }

    /// The body of a function of the distance of two positions.
    pub(super) fn of_distances(code: &'a ModCode<'a>) -> Self {
        let mut scope = Self::new(code);
        for (id, node) in code.expr.ids().zip(code.expr.nodes()) {
            scope.values[id.index()] = match node {
                Node::Input(Input::Query) => Some(Text::atom("distance")),
                Node::Input(Input::Key) => Some(text::literal(Scalar::I32(0))),
                _ => None,
            };
        }
        scope
    }

    /// Says that a node's value is a staged term: a word, also where it is a bool.
    pub(super) fn provide_staged(&mut self, id: NodeId, owner: &str) {
        let field = format!("{owner}.{}", self.code.name(id));
        self.values[id.index()] = Some(match self.code.expr.ty(id) {
            Type::Bool => Text::compound(format!("{field} != 0u")),
            _ => Text::atom(field),
        });
    }

    /// Says that a node's value (and fault) is a field of a row or column.
    pub(super) fn provide(&mut self, id: NodeId, owner: &str) {
        let name = self.code.name(id);
        self.values[id.index()] = Some(Text::atom(format!("{owner}.{name}")));
        if self.code.may_fault(id) {
            self.faults[id.index()] = Some(format!("{owner}.{name}_fault"));
        }
    }

    /// Emits what is needed for the given nodes.
    pub(super) fn compute(&mut self, roots: &[NodeId]) {
        let expr = self.code.expr;
        let mut uses = vec![0u32; expr.nodes().len()];
        roots.iter().for_each(|root| uses[root.index()] += 1);
        for id in expr.ids().rev() {
            if uses[id.index()] > 0 && self.values[id.index()].is_none() {
                // A guarded load names its indices more than once.
                let times = if matches!(expr.node(id), Node::Load(..)) && self.code.load_is_guarded(id) {
                    2
                } else {
                    1
                };
                self.code.for_each_operand(id, |operand| uses[operand.index()] += times);
            }
        }
        for id in expr.ids() {
            if uses[id.index()] > 0 && self.values[id.index()].is_none() {
                let value = self.value_of(id);
                let is_result = roots == [id] && uses[id.index()] == 1;
                let value =
                    if is_result { value } else { self.name_if_worth_it(id, value, uses[id.index()]) };
                self.values[id.index()] = Some(value);
            }
        }
    }

    /// The value of a computed node.
    pub(super) fn value(&self, id: NodeId) -> &Text {
        self.values[id.index()].as_ref().expect("operands are computed before their users")
    }

    /// The fault of a computed node, if it may have one.
    pub(super) fn fault(&self, id: NodeId) -> Option<&str> {
        self.faults[id.index()].as_deref()
    }

    pub(super) fn line(&mut self, line: &str) {
        self.lines += "        ";
        self.lines += line;
        self.lines += "\n";
    }

    pub(super) fn into_lines(self) -> String {
        self.lines
    }

    fn name_if_worth_it(&mut self, id: NodeId, value: Text, uses: u32) -> Text {
        let is_leaf = matches!(
            self.code.expr.node(id),
            Node::Const(_) | Node::Input(_) | Node::Capture(_) | Node::Extent(..)
        );
        let is_load = matches!(self.code.expr.node(id), Node::Load(..));
        if is_leaf || (uses == 1 && !is_load && value.text.len() <= LONGEST_INLINE) {
            return value;
        }
        let name = self.code.name(id);
        self.line(&format!("const {} {name} = {};", text::type_name(self.code.expr.ty(id)), value.text));
        Text::atom(name)
    }

    fn value_of(&mut self, id: NodeId) -> Text {
        let (code, expr) = (self.code, self.code.expr);
        let ty = |id: NodeId| expr.ty(id);
        let value = match *expr.node(id) {
            Node::Const(value) => return text::literal(value),
            Node::Input(Input::Score) => return Text::atom("qk"),
            Node::Input(input @ (Input::Query | Input::Key)) if self.indices => {
                return Text::atom(format!("{}.value", input.name()));
            }
            Node::Input(input) => return Text::atom(input.name()),
            Node::Capture(capture) => return code.capture(capture),
            Node::Extent(capture, axis) => return code.extent(capture, usize::from(axis)),
            Node::Load(..) => return self.load(id),
            Node::Unary(op, x) => text::unary(op, ty(x), code.precision, self.value(x)),
            Node::Binary(op, a, b) => {
                if op.is_division() && ty(b).is_integer() {
                    return self.division(id, op, a, b);
                }
                text::binary(op, ty(a), code.precision, self.value(a), self.value(b), false)
            }
            Node::Select { condition, accept, reject } => {
                if code.may_fault(id) {
                    return self.select_with_faults(id, condition, accept, reject);
                }
                text::select(ty(id), self.value(condition), self.value(accept), self.value(reject))
            }
            Node::Cast(..) if self.indices && code.is_real_key(id) => return Text::atom("kv.real"),
            Node::Cast(to, x) => text::cast(ty(x), to, self.value(x)),
            Node::After { then, .. } => self.value(then).clone(),
        };
        self.pass_faults_on(id);
        value
    }

    /// The first fault among the operands, in their order, is the node's.
    fn pass_faults_on(&mut self, id: NodeId) {
        let faults = self.operand_faults(id);
        self.faults[id.index()] = match faults.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            [first, rest @ ..] => {
                let chain =
                    rest.iter().fold(first.clone(), |chain, next| format!("first_fault({chain}, {next})"));
                Some(self.fault_variable(id, &chain))
            }
        };
    }

    fn operand_faults(&self, id: NodeId) -> Vec<String> {
        let mut faults: Vec<String> = Vec::new();
        self.code.expr.node(id).for_each_operand(|operand| {
            if let Some(fault) = self.fault(operand).filter(|f| !faults.iter().any(|known| known == f)) {
                faults.push(fault.to_owned());
            }
        });
        faults
    }

    fn fault_variable(&mut self, id: NodeId, value: &str) -> String {
        let name = format!("{}_fault", self.code.name(id));
        self.line(&format!("const long long {name} = {value};"));
        name
    }

    fn select_with_faults(&mut self, id: NodeId, condition: NodeId, accept: NodeId, reject: NodeId) -> Text {
        let fault_of = |scope: &Self, id| scope.fault(id).unwrap_or("0").to_owned();
        let (yes, no) = (fault_of(self, accept), fault_of(self, reject));
        let mut fault = format!("{} ? {yes} : {no}", self.value(condition).operand());
        if let Some(first) = self.fault(condition) {
            fault = format!("first_fault({first}, {fault})");
        }
        self.faults[id.index()] = Some(self.fault_variable(id, &fault));
        let ty = self.code.expr.ty(id);
        text::select(ty, self.value(condition), self.value(accept), self.value(reject))
    }

    fn division(&mut self, id: NodeId, op: BinaryOp, a: NodeId, b: NodeId) -> Text {
        let expr = self.code.expr;
        let plain = match expr.node(b) {
            Node::Const(Scalar::I32(v)) => *v != 0 && *v != -1,
            Node::Const(value) => value.bits() != 0,
            _ => false,
        };
        let value = text::binary(op, expr.ty(a), self.code.precision, self.value(a), self.value(b), plain);
        match self.code.site(id) {
            None => self.pass_faults_on(id),
            Some(site) => {
                let own = format!("{} == 0 ? fault_at({site}, 0) : 0", self.value(b).operand());
                self.own_fault(id, &own);
            }
        }
        value
    }

    /// The faults of the operands, then the node's own.
    fn own_fault(&mut self, id: NodeId, own: &str) {
        let faults = self.operand_faults(id);
        let chain =
            faults.iter().rev().fold(own.to_owned(), |rest, first| format!("first_fault({first}, {rest})"));
        self.faults[id.index()] = Some(self.fault_variable(id, &chain));
    }

    /// A load whose last index is a sum of positions.
    fn load_at_position(&self, array: &str, capture: CaptureId, outer: &[NodeId], sum: &PositionSum) -> Text {
        let mut origin = sum.origin(sum.other().map(|other| self.value(other)));
        if let [first, rest @ ..] = outer {
            let mut row = self.value(*first).text.clone();
            for (axis, &index) in (1..).zip(rest) {
                row = format!(
                    "element({row}, {}, {})",
                    self.code.extent(capture, axis).text,
                    self.value(index).text
                );
            }
            origin = format!("element({row}, {}, 0) + {origin}", self.code.extent(capture, outer.len()).text);
        }
        Text::atom(format!("read({array} + ({origin}), {})", sum.offset()))
    }

    fn load(&mut self, id: NodeId) -> Text {
        let (code, expr) = (self.code, self.code.expr);
        let Node::Load(capture, indices) = *expr.node(id) else { unreachable!("called for loads") };
        let indices = indices.as_slice();
        let array = code.capture(capture).text;
        if let Some(sum) = code.position_sum(id) {
            return self.load_at_position(&array, capture, &indices[..indices.len() - 1], sum);
        }
        let at = indices.iter().enumerate().fold(String::new(), |at, (axis, &index)| {
            let index = self.value(index);
            match axis {
                0 => index.text.clone(),
                _ => format!("element({at}, {}, {})", code.extent(capture, axis).text, index.text),
            }
        });
        if !code.load_is_guarded(id) {
            return Text::atom(format!("read({array}, {at})"));
        }
        let is_inside = |scope: &Self, axis: usize| {
            format!("inside({}, {})", scope.value(indices[axis]).text, code.extent(capture, axis).text)
        };
        if let Some(site) = code.site(id) {
            let own = (0..indices.len()).rev().fold("0".to_owned(), |rest, axis| {
                let index = &self.value(indices[axis]).text;
                format!("(!{} ? fault_at({}, {index}) : {rest})", is_inside(self, axis), site + axis)
            });
            self.own_fault(id, &own);
        } else {
            self.pass_faults_on(id);
        }
        let inside: Vec<String> = (0..indices.len()).map(|axis| is_inside(self, axis)).collect();
        Text::atom(format!("read_if({}, {array}, {at})", inside.join(" & ")))
    }
}

/// Whether a value is worth a field of a row or column: everything but what is there anyway.
pub(super) fn is_worth_keeping(code: &ModCode<'_>, id: NodeId) -> bool {
    !matches!(code.expr.node(id), Node::Const(_) | Node::Input(_) | Node::Capture(_) | Node::Extent(..))
}

/// The type of a node's field.
pub(super) fn field_type(code: &ModCode<'_>, id: NodeId) -> &'static str {
    match code.expr.ty(id) {
        Type::Bool => "bool",
        other => text::type_name(other),
    }
}
