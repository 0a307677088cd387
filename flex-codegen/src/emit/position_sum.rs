//! Array indices that are sums of positions, such as `q − kv + offset`.
//!
//! Kernels know the place of an element in its tile at compile time. An index written as a sum of the tile's place, in
//! 64 bits, and of a constant becomes an address that all elements of a thread share and the constant of its load; and
//! equal indices are loaded once.

use std::fmt::Write;

use flex_core::ir::{BinaryOp, Expr, Input, Node, NodeId, Scalar, Type, UnaryOp};

use super::text::Text;
use super::variance::Level;

/// `±q ± kv ± other + constant`, a position left out where its sign is 0.
///
/// The exact sum is the index: proved in bounds, the wrapped one is at least 0 and below 2³⁰
/// ([`Guards::Proved`](crate::Guards)), and the exact one lies so near the range of i32 that no other number in bounds is
/// congruent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PositionSum {
    query: i8,
    key: i8,
    /// Something of the row or the launch, and whether it is subtracted.
    other: Option<(NodeId, bool)>,
    constant: i64,
}

/// The largest constant that leaves the sum near the range of i32.
const LARGEST_CONSTANT: i64 = 1 << 29;

impl PositionSum {
    /// The index of a load as such a sum, if it has the key in it and no more than one other term.
    pub(super) fn of(expr: &Expr, levels: &[Level], index: NodeId) -> Option<Self> {
        if expr.ty(index) != Type::I32 {
            return None;
        }
        let mut sum = Self::default();
        sum.add(expr, levels, index, false)?;
        (sum.key != 0 && sum.constant.abs() <= LARGEST_CONSTANT).then_some(sum)
    }

    fn add(&mut self, expr: &Expr, levels: &[Level], term: NodeId, negative: bool) -> Option<()> {
        let sign = if negative { -1 } else { 1 };
        match *expr.node(term) {
            Node::Binary(BinaryOp::Add, a, b) => {
                self.add(expr, levels, a, negative)?;
                self.add(expr, levels, b, negative)?;
            }
            Node::Binary(BinaryOp::Sub, a, b) => {
                self.add(expr, levels, a, negative)?;
                self.add(expr, levels, b, !negative)?;
            }
            Node::Unary(UnaryOp::Neg, a) => self.add(expr, levels, a, !negative)?,
            Node::Const(Scalar::I32(value)) => self.constant += i64::from(sign) * i64::from(value),
            Node::Input(Input::Query) if self.query == 0 => self.query = sign,
            Node::Input(Input::Key) if self.key == 0 => self.key = sign,
            Node::Input(Input::Query | Input::Key) => return None,
            _ if levels[term.index()] <= Level::Row && self.other.is_none() => {
                self.other = Some((term, negative));
            }
            _ => return None,
        }
        Some(())
    }

    /// The term that has to be computed.
    pub(super) fn other(&self) -> Option<NodeId> {
        self.other.map(|(other, _)| other)
    }

    /// The part that all elements of a thread share, in 64 bits; `other` is the text of that term.
    pub(super) fn origin(&self, other: Option<&Text>) -> String {
        let mut text = self.positions("origin", "(long long)");
        if let (Some((_, negative)), Some(other)) = (self.other, other) {
            write!(text, " {} {}", if negative { '-' } else { '+' }, other.operand())
                .expect("writing to a string");
        }
        if self.constant != 0 {
            let sign = if self.constant < 0 { '-' } else { '+' };
            write!(text, " {sign} {}", self.constant.abs()).expect("writing to a string");
        }
        text
    }

    /// The part that is known at compile time.
    pub(super) fn offset(&self) -> String {
        self.positions("offset", "")
    }

    fn positions(&self, part: &str, cast: &str) -> String {
        let term = |sign: i8, position: &str| match sign {
            0 => String::new(),
            1 => format!(" + {cast}{position}.{part}"),
            _ => format!(" - {cast}{position}.{part}"),
        };
        // The positive one first, so that no sum starts with a sign where it need not.
        let terms = match self.query {
            1 => term(self.query, "q") + &term(self.key, "kv"),
            _ => term(self.key, "kv") + &term(self.query, "q"),
        };
        terms.strip_prefix(" + ").map_or_else(|| terms.trim_start().replacen("- ", "-", 1), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::super::variance::levels_of;
    use super::*;

    /// Origin and offset of the index `v7` of a load.
    fn sum(body: &str) -> Option<[String; 2]> {
        sum_with(-7, body)
    }

    fn sum_with(constant: i32, body: &str) -> Option<[String; 2]> {
        let head = "capture @0 = table: View<f32, 1>\ncapture @1 = offset: i32\nv0 = q\nv1 = kv\nv2 = @1";
        let text = format!(
            "{head}\nv3 = {constant}i32\n{body}\nv8 = load @0[v7]\nv9 = score\nv10 = add v8, v9\nreturn v10"
        );
        let expr: Expr = text.parse().unwrap();
        let index = expr.nodes().iter().find_map(|node| match node {
            Node::Load(_, indices) => Some(indices.as_slice()[0]),
            _ => None,
        });
        let sum = PositionSum::of(&expr, &levels_of(&expr), index.unwrap())?;
        Some([sum.origin(sum.other().map(|_| Text::atom("c.offset")).as_ref()), sum.offset()])
    }

    #[test]
    fn sums_of_positions_are_found_whatever_their_order() {
        let expected = |origin: &str, offset: &str| Some([origin.to_owned(), offset.to_owned()]);
        assert_eq!(
            sum("v4 = sub v0, v1\nv5 = add v4, v2\nv6 = neg v3\nv7 = sub v5, v6"),
            expected("(long long)q.origin - (long long)kv.origin + c.offset - 7", "q.offset - kv.offset"),
        );
        assert_eq!(
            sum("v4 = add v0, v2\nv5 = sub v1, v4\nv6 = add v5, v3\nv7 = neg v6"),
            expected("(long long)q.origin - (long long)kv.origin + c.offset + 7", "q.offset - kv.offset"),
        );
    }

    #[test]
    fn other_indices_are_left_alone() {
        assert_eq!(
            sum("v4 = add v0, v1\nv5 = add v4, v2\nv6 = mul v5, v3\nv7 = add v6, v1"),
            None,
            "a product"
        );
        assert_eq!(sum("v4 = add v0, v1\nv5 = add v4, v2\nv6 = add v5, v3\nv7 = add v6, v1"), None, "2 kv");
        assert_eq!(sum("v4 = add v0, v3\nv5 = max v1, v2\nv6 = neg v5\nv7 = add v4, v6"), None, "no key");
        let far = sum_with(1 << 30, "v4 = sub v0, v1\nv5 = add v4, v2\nv6 = neg v3\nv7 = sub v5, v6");
        assert_eq!(far, None, "a large constant");
    }
}
