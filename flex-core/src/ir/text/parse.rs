//! Text to expression.

use std::str::FromStr;

use super::print::is_identifier;
use crate::ir::verify::Unverified;
use crate::ir::{
    BinaryOp, CaptureDecl, CaptureId, Expr, Indices, Input, Node, NodeId, Scalar, Type, UnaryOp, VerifyError,
};

/// Why a text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong at a [`ParseError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Something else should stand there.
    #[error("expected {expected}, got `{got}`")]
    Expected {
        /// What should stand there.
        expected: String,
        /// The rest of the line.
        got: String,
    },
    /// There is no `return` line, or something follows it.
    #[error("expected one `return` line, at the end")]
    Return,
    /// The text is an expression, but not a well-formed one.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl FromStr for Expr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut raw = Unverified { nodes: Vec::new(), types: None, captures: Vec::new(), root: NodeId(0) };
        let (mut returned, mut node_lines, mut last) = (None, Vec::new(), 0);
        for (line, content) in text.lines().enumerate().map(|(i, content)| (i + 1, content)) {
            let mut cursor = Cursor { rest: content };
            if cursor.at_end() {
                continue;
            }
            last = line;
            let parsed = if returned.is_some() {
                Err(ParseErrorKind::Return)
            } else if cursor.take("capture ") {
                cursor.capture(raw.captures.len()).map(|decl| raw.captures.push(decl))
            } else if cursor.take("return ") {
                cursor.node_id().map(|root| returned = Some(root))
            } else {
                node_lines.push(line);
                cursor.definition(raw.nodes.len()).map(|node| raw.nodes.push(node))
            };
            let whole =
                parsed.and_then(|()| if cursor.at_end() { Ok(()) } else { cursor.expected("the end") });
            whole.map_err(|kind| ParseError { line, kind })?;
        }
        raw.root = returned.ok_or(ParseError { line: last + 1, kind: ParseErrorKind::Return })?;
        Self::try_from(raw).map_err(|error| {
            let node = match &error {
                VerifyError::OperandOrder { node, .. }
                | VerifyError::Node { node, .. }
                | VerifyError::Repeated { node, .. }
                | VerifyError::WrongType { node, .. }
                | VerifyError::Unused(node) => Some(node.index()),
                VerifyError::Capture(_) | VerifyError::TypeCount { .. } | VerifyError::Root { .. } => None,
            };
            let line = node.and_then(|i| node_lines.get(i).copied()).unwrap_or(last);
            ParseError { line, kind: error.into() }
        })
    }
}

type Parsed<T> = Result<T, ParseErrorKind>;

/// What is left of a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn expected<T>(&self, expected: impl Into<String>) -> Parsed<T> {
        Err(ParseErrorKind::Expected { expected: expected.into(), got: self.rest.trim().into() })
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty() || self.rest.starts_with("//")
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let taken = self.rest.strip_prefix(token);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { self.expected(format!("`{}`", token.trim_end())) }
    }

    /// The longest run of characters that names, numbers and NaNs are made of.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | ':');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn number<T: FromStr>(&mut self, expected: &str) -> Parsed<T> {
        let before = self.rest;
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().or_else(|_| Cursor { rest: before }.expected(expected))
    }

    fn node_id(&mut self) -> Parsed<NodeId> {
        self.expect("v")?;
        self.number("the number of a node").map(NodeId)
    }

    fn capture_id(&mut self) -> Parsed<CaptureId> {
        self.expect("@")?;
        self.number("the number of a capture").map(CaptureId)
    }

    fn ty(&mut self) -> Parsed<Type> {
        let before = self.rest;
        Type::from_name(self.word())
            .map_or_else(|| Cursor { rest: before }.expected("bool, i32, u32 or f32"), Ok)
    }

    /// `@0 = name: View<f32, 2>`, after `capture`.
    fn capture(&mut self, number: usize) -> Parsed<CaptureDecl> {
        self.expect(&format!("@{number} "))?;
        self.expect("=")?;
        let name = self.name()?;
        self.expect(":")?;
        if !self.take("View<") {
            return Ok(CaptureDecl { name, ty: self.ty()?, rank: 0 });
        }
        let ty = self.ty()?;
        self.expect(",")?;
        self.skip_space();
        let before = self.rest;
        let rank = self.number("a rank from 1 to 4")?;
        if !(1..=4).contains(&rank) {
            return Cursor { rest: before }.expected("a rank from 1 to 4");
        }
        self.expect(">")?;
        Ok(CaptureDecl { name, ty, rank })
    }

    fn name(&mut self) -> Parsed<String> {
        self.skip_space();
        if !self.take("\"") {
            let end = self.rest.find(':').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            if !is_identifier(name.trim_end()) {
                return self.expected("a name");
            }
            self.rest = rest;
            return Ok(name.trim_end().into());
        }
        let mut name = String::new();
        loop {
            let mut chars = self.rest.chars();
            match chars.next() {
                Some('"') => {
                    self.rest = chars.as_str();
                    return Ok(name);
                }
                Some('\\') => {
                    let escaped = self.rest.strip_prefix("\\u{").and_then(|rest| rest.split_once('}'));
                    let decoded = escaped.and_then(|(digits, rest)| {
                        Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, rest))
                    });
                    let Some((c, rest)) = decoded else { return self.expected("an escape like `\\u{22}`") };
                    name.push(c);
                    self.rest = rest;
                }
                Some(c) => {
                    name.push(c);
                    self.rest = chars.as_str();
                }
                None => return self.expected("`\"` at the end of the name"),
            }
        }
    }

    /// `v0 = …`
    fn definition(&mut self, number: usize) -> Parsed<Node> {
        self.expect(&format!("v{number} "))?;
        self.expect("=")?;
        self.node()
    }

    fn node(&mut self) -> Parsed<Node> {
        self.skip_space();
        if self.rest.starts_with('@') {
            return self.capture_id().map(Node::Capture);
        }
        let before = self.rest;
        let word = self.word();
        if let Some(input) = Input::ALL.into_iter().find(|input| input.name() == word) {
            return Ok(Node::Input(input));
        }
        if let Some(op) = UnaryOp::from_name(word) {
            return Ok(Node::Unary(op, self.node_id()?));
        }
        if let Some(op) = BinaryOp::from_name(word) {
            let (a, b) = self.pair()?;
            return Ok(Node::Binary(op, a, b));
        }
        match word {
            "len" => {
                let id = self.capture_id()?;
                self.expect(",")?;
                self.skip_space();
                Ok(Node::Extent(id, self.number("an axis")?))
            }
            "load" => self.load(),
            "select" => {
                let (condition, accept) = self.pair()?;
                self.expect(",")?;
                Ok(Node::Select { condition, accept, reject: self.node_id()? })
            }
            "cast" => {
                let ty = self.ty()?;
                Ok(Node::Cast(ty, self.node_id()?))
            }
            "after" => {
                let (first, then) = self.pair()?;
                Ok(Node::After { first, then })
            }
            _ => match constant(word) {
                Some(value) => Ok(Node::Const(value)),
                None => Cursor { rest: before }.expected("an operation, an input or a constant"),
            },
        }
    }

    fn pair(&mut self) -> Parsed<(NodeId, NodeId)> {
        let a = self.node_id()?;
        self.expect(",")?;
        Ok((a, self.node_id()?))
    }

    fn load(&mut self) -> Parsed<Node> {
        let id = self.capture_id()?;
        self.expect("[")?;
        let mut indices = vec![self.node_id()?];
        while self.take(",") {
            indices.push(self.node_id()?);
        }
        match Indices::new(&indices) {
            Some(indices) => {
                self.expect("]")?;
                Ok(Node::Load(id, indices))
            }
            None => self.expected("at most 4 indices"),
        }
    }
}

fn constant(word: &str) -> Option<Scalar> {
    match word {
        "true" => return Some(Scalar::Bool(true)),
        "false" => return Some(Scalar::Bool(false)),
        _ => {}
    }
    if let Some(digits) = word.strip_suffix("i32") {
        return digits.parse().ok().map(Scalar::I32);
    }
    if let Some(digits) = word.strip_suffix("u32") {
        return digits.parse().ok().map(Scalar::U32);
    }
    let digits = word.strip_suffix("f32")?;
    if let Some(bits) = digits.strip_prefix("nan:") {
        return u32::from_str_radix(bits, 16).ok().map(|bits| Scalar::F32(f32::from_bits(bits)));
    }
    digits.parse().ok().map(Scalar::F32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Builder;
    use crate::testing::{self, ExprConfig};

    #[test]
    fn the_documented_example_is_the_printed_form() {
        let text = "\
capture @0 = doc: View<i32, 1>
v0 = q
v1 = load @0[v0]
v2 = kv
v3 = load @0[v2]
v4 = eq v1, v3
v5 = ge v0, v2
v6 = false
v7 = select v4, v5, v6
return v7
";
        assert_eq!(text.parse::<Expr>().unwrap().to_string(), text);
        let spaced = text.replace(',', " ,  ").replace("v6 = false", "\n  // no\nv6  =  false // never");
        assert_eq!(spaced.parse::<Expr>().unwrap().to_string(), text);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let texts = [
            "",
            "v0 = q",
            "v0 = q\nreturn v0\nv1 = kv",
            "v1 = q\nreturn v1",
            "v0 = query\nreturn v0",
            "v0 = q\nv1 = add v0 v0\nreturn v1",
            "v0 = q\nv1 = add v0, v2\nreturn v1",
            "v0 = q\nv1 = score\nv2 = add v0, v1\nreturn v2",
            "v0 = 99999999999i32\nreturn v0",
            "v0 = q extra\nreturn v0",
            "v0 = q\nv1 = kv\nreturn v0",
            "v0 = q\nreturn v9",
            "capture @1 = doc: i32\nv0 = @1\nreturn v0",
            "capture @0 = doc: View<i32, 5>\nv0 = q\nreturn v0",
            "capture @0 = doc: View<i64, 1>\nv0 = q\nreturn v0",
            "capture @0 = \"doc\\n\": i32\nv0 = @0\nreturn v0",
            "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = load @0[v0, v0, v0, v0, v0]\nreturn v1",
            "capture @0 = doc: View<i32, 1>\nv0 = q\nv1 = load @0[v0, v0]\nreturn v1",
        ];
        let errors: Vec<_> = texts.iter().map(|text| text.parse::<Expr>().unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        line 1: expected one `return` line, at the end
        line 2: expected one `return` line, at the end
        line 3: expected one `return` line, at the end
        line 1: expected `v0`, got `v1 = q`
        line 1: expected an operation, an input or a constant, got `query`
        line 2: expected `,`, got `v0`
        line 2: v1 uses v2, expected an operand that comes before it
        line 3: v2 is not well-formed: `add` needs two values of one type, got i32 and f32
        line 1: expected an operation, an input or a constant, got `99999999999i32`
        line 1: expected the end, got `extra`
        line 2: v1 is not needed by the root, expected only needed nodes: remove it
        line 2: the root v9 does not exist, expected one of the 1 nodes
        line 1: expected `@0`, got `@1 = doc: i32`
        line 1: expected a rank from 1 to 4, got `5>`
        line 1: expected bool, i32, u32 or f32, got `i64, 1>`
        line 1: expected an escape like `\u{22}`, got `\n": i32`
        line 3: expected at most 4 indices, got `]`
        line 3: v1 is not well-formed: capture `doc` has rank 1 but is indexed with 2 indices
        "#);
    }

    #[test]
    fn odd_names_and_floats_survive() {
        let names = ["", "a b", "naïve", "\"quoted\\\"", "line\nend", "1st", "r#type"];
        let mut b = Builder::new();
        let mut sum = b.constant(f32::from_bits(0xffc0_1234));
        for value in [-0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-45, f32::MAX, 0.1] {
            let value = b.constant(value);
            sum = b.binary(BinaryOp::Add, sum, value);
        }
        for name in names {
            let id = b.declare(name, Type::F32, 0);
            let value = b.capture(id);
            sum = b.binary(BinaryOp::Add, sum, value);
        }
        let expr = b.finish(sum).unwrap();
        assert_eq!(expr.to_string().parse::<Expr>().unwrap(), expr);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

        #[test]
        fn what_is_printed_parses_back(bound in testing::expressions(ExprConfig::score())) {
            prop_assert_eq!(&bound.expr().to_string().parse::<Expr>().unwrap(), &**bound.expr());
        }

        #[test]
        fn what_is_serialised_deserialises(bound in testing::expressions(ExprConfig::mask())) {
            let bytes = serde_json::to_vec(&**bound.expr()).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Expr>(&bytes).unwrap(), &**bound.expr());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(5000)))]

        #[test]
        fn no_text_panics(
            bound in testing::expressions(ExprConfig::mask()),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), "\\PC{0,3}"), 1..4),
        ) {
            let mut text: Vec<char> = bound.expr().to_string().chars().collect();
            for (place, junk) in cuts {
                let i = place.index(text.len());
                text.splice(i..=i, junk.chars());
                if text.is_empty() { break }
            }
            let _ = text.into_iter().collect::<String>().parse::<Expr>();
        }
    }
}
