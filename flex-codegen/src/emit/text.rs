//! Operations as C++ text. What C++ leaves undefined or defines otherwise than Rust goes through `flex/ops.cuh`.

use flex_core::ir::{BinaryOp, Scalar, Type, UnaryOp};

use crate::Precision;

/// A C++ expression, and whether it may stand in another without parentheses.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) atomic: bool,
}

impl Text {
    /// A name, a literal, a call.
    pub(super) fn atom(text: impl Into<String>) -> Self {
        Self { text: text.into(), atomic: true }
    }

    pub(super) fn compound(text: impl Into<String>) -> Self {
        Self { text: text.into(), atomic: false }
    }

    /// As an operand of an operator.
    pub(super) fn operand(&self) -> String {
        if self.atomic { self.text.clone() } else { format!("({})", self.text) }
    }
}

/// The type of a value.
pub(super) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::I32 => "int",
        Type::U32 => "unsigned",
        Type::F32 => "float",
    }
}

/// The type of an element of a captured array.
pub(super) fn element_type(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "unsigned char",
        other => type_name(other),
    }
}

/// A constant.
pub(super) fn literal(value: Scalar) -> Text {
    match value {
        Scalar::Bool(v) => Text::atom(v.to_string()),
        Scalar::I32(i32::MIN) => Text::compound("-2147483647 - 1"),
        Scalar::I32(v) if v < 0 => Text::compound(v.to_string()),
        Scalar::I32(v) => Text::atom(v.to_string()),
        Scalar::U32(v) => Text::atom(format!("{v}u")),
        Scalar::F32(v) if !v.is_finite() => Text::atom(format!("float_of_bits({:#010x}u)", v.to_bits())),
        Scalar::F32(v) if v.is_sign_negative() => Text::compound(format!("{v:?}f")),
        Scalar::F32(v) => Text::atom(format!("{v:?}f")),
    }
}

/// `op x` on a value of type `ty`.
pub(super) fn unary(op: UnaryOp, ty: Type, precision: Precision, x: &Text) -> Text {
    use UnaryOp::*;
    let fast = precision == Precision::Fast;
    let call = |function: &str| Text::atom(format!("{function}({})", x.text));
    let (accurate_name, fast_name) = match op {
        Neg if ty == Type::F32 => return Text::compound(format!("-{}", x.operand())),
        Neg => return call("neg"),
        Not if ty == Type::Bool => return Text::atom(format!("!{}", x.operand())),
        Not => return Text::atom(format!("~{}", x.operand())),
        Abs if ty == Type::F32 => return call("fabsf"),
        Abs => return call("abs_wrapping"),
        Signum => return call("signum"),
        CountOnes => return call("count_ones"),
        LeadingZeros => return call("leading_zeros"),
        TrailingZeros => return call("trailing_zeros"),
        IsNan => return call("is_nan"),
        Floor => return call("floorf"),
        Ceil => return call("ceilf"),
        Round => return call("roundf"),
        Trunc => return call("truncf"),
        Sqrt => ("sqrtf", "fast_sqrt"),
        Exp => ("expf", "fast_exp"),
        Exp2 => ("exp2f", "fast_exp2"),
        Ln => ("logf", "fast_ln"),
        Log2 => ("log2f", "fast_log2"),
        Sin => ("sinf", "fast_sin"),
        Cos => ("cosf", "fast_cos"),
        Tanh => ("tanhf", "fast_tanh"),
    };
    call(if fast { fast_name } else { accurate_name })
}

/// `a op b` on values of type `ty`; `plain_division`: the right side is a constant that needs no care.
pub(super) fn binary(
    op: BinaryOp,
    ty: Type,
    precision: Precision,
    a: &Text,
    b: &Text,
    plain_division: bool,
) -> Text {
    use BinaryOp::*;
    let infix = |symbol: &str| Text::compound(format!("{} {symbol} {}", a.operand(), b.operand()));
    let call = |function: &str| Text::atom(format!("{function}({}, {})", a.text, b.text));
    let fast = precision == Precision::Fast;
    match (op, ty) {
        (Add, Type::I32) => call("add"),
        (Sub, Type::I32) => call("sub"),
        (Mul, Type::I32) => call("mul"),
        (Add, _) => infix("+"),
        (Sub, _) => infix("-"),
        (Mul, _) => infix("*"),
        (Div, Type::F32) if fast => call("fast_div"),
        (Div, Type::F32) => infix("/"),
        (Div, _) if plain_division => infix("/"),
        (Div, _) => call("div"),
        (Rem, Type::F32) => call("fmodf"),
        (Rem, _) if plain_division => infix("%"),
        (Rem, _) => call("rem"),
        (DivEuclid, _) => call("div_euclid"),
        (RemEuclid, _) => call("rem_euclid"),
        (Min, Type::F32) => call("fminf"),
        (Max, Type::F32) => call("fmaxf"),
        (Min, _) => call("min"),
        (Max, _) => call("max"),
        (Pow, _) => call(if fast { "fast_pow" } else { "powf" }),
        (And, _) => infix("&"),
        (Or, _) => infix("|"),
        (Xor, _) => infix("^"),
        (Shl, _) => call("shl"),
        (Shr, _) => call("shr"),
        (Eq, _) => infix("=="),
        (Ne, _) => infix("!="),
        (Lt, _) => infix("<"),
        (Le, _) => infix("<="),
        (Gt, _) => infix(">"),
        (Ge, _) => infix(">="),
    }
}

/// `x as to`.
pub(super) fn cast(from: Type, to: Type, x: &Text) -> Text {
    match (from, to) {
        (Type::F32, Type::I32) => Text::atom(format!("to_int({})", x.text)),
        (Type::F32, Type::U32) => Text::atom(format!("to_unsigned({})", x.text)),
        _ => Text::atom(format!("{}({})", type_name(to), x.text)),
    }
}

/// `condition ? accept : reject`, without a branch.
pub(super) fn select(ty: Type, condition: &Text, accept: &Text, reject: &Text) -> Text {
    let infix = |left: String, symbol: &str, right: &Text| {
        Text::compound(format!("{left} {symbol} {}", right.operand()))
    };
    match (ty, accept.text.as_str(), reject.text.as_str()) {
        (Type::Bool, _, "false") => infix(condition.operand(), "&", accept),
        (Type::Bool, "true", _) => infix(condition.operand(), "|", reject),
        (Type::Bool, "false", _) => infix(format!("!{}", condition.operand()), "&", reject),
        (Type::Bool, _, "true") => infix(format!("!{}", condition.operand()), "|", accept),
        _ => Text::compound(format!("{} ? {} : {}", condition.operand(), accept.operand(), reject.operand())),
    }
}
