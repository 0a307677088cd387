//! The generated structs: `Captures`, and `Mods` with a row part, a column part and an element part.

use std::fmt::Write;

use flex_core::ir::{NodeId, Scalar};

use super::code::ModCode;
use super::kept_keys::{Condition, KeySide};
use super::length;
use super::rewrite::ExponentScale;
use super::scope::{Scope, field_type, is_worth_keeping};
use super::staged::{DISTANCE_TERMS, KEY_TERMS, StagedNodes};
use super::text::literal;
use super::variance::Level;
use crate::StagedTerms;

/// The mods of a kernel.
pub(super) struct Mods<'a> {
    pub(super) mask: Option<ModCode<'a>>,
    pub(super) score: Option<ModCode<'a>>,
    /// The conditions whose conjunction is the mask, if its kept keys are an interval.
    pub(super) kept_keys: Option<Vec<Condition>>,
    /// The kept keys are an interval that the launch brings.
    pub(super) kept_keys_from_table: bool,
    pub(super) can_fault: bool,
    pub(super) exponent_scale: ExponentScale,
    /// The code of a scale of captures.
    pub(super) captured_scale: Option<ModCode<'a>>,
    /// Slope and offset of a score that is a line in the key.
    pub(super) key_line: Option<[ModCode<'a>; 2]>,
}

pub(super) const SIGNATURE: &str = "const Problem& p, const Captures& c";

impl Mods<'_> {
    /// The text of both structs.
    pub(super) fn text(&self) -> String {
        let codes = || [&self.mask, &self.score].into_iter().flatten();
        let mut out = String::from("\nnamespace flex {\nstruct Captures {\n");
        codes().for_each(|code| out += &code.capture_fields());
        out += "};\n\nstruct Mods {\n";
        for (name, value) in [
            ("kHasMask", self.mask.is_some() || self.kept_keys_from_table),
            ("kKeptKeysAreInterval", self.kept_keys.is_some() || self.kept_keys_from_table),
            ("kHasScore", self.score.is_some()),
            ("kScoreIsLineInKey", self.key_line.is_some()),
            ("kCanFault", self.can_fault),
        ] {
            writeln!(out, "    static constexpr bool {name} = {value};").expect("writing to a string");
        }
        if length::is_long(codes()) {
            out += "    static constexpr bool kElementIsLong = true;\n";
        }
        let is_staged = self.staged_terms().any();
        if is_staged {
            let in_full_tiles = self.score.as_ref().is_some_and(|code| !code.staged.is_empty());
            writeln!(out, "    static constexpr bool kStagesInFullTiles = {in_full_tiles};")
                .expect("writing to a string");
        }
        let part = |level| codes().map(|code| (code, kept_nodes(code, level))).collect::<Vec<_>>();
        out += &part_struct("Row", &part(Level::Row));
        out += &part_struct("Column", &part(Level::Column));
        out += &part_function("Row", "row", "q", &part(Level::Row), false);
        if is_staged {
            for terms in [KEY_TERMS, DISTANCE_TERMS] {
                out += &terms.declaration(codes());
                out += &terms.function(codes());
            }
        }
        out += &part_function("Column", "column", "kv", &part(Level::Column), is_staged);
        out += &self.kept_keys_function();
        out += &element_function("bool", "mask", "", self.mask.as_ref(), "true", is_staged);
        out += &self.exponent_scale_function();
        out += &element_function("float", "score", "float qk, ", self.score.as_ref(), "qk", is_staged);
        out += &self.key_line_function();
        out += "};\n}  // namespace flex\n";
        out
    }

    /// Takes terms out of the code of elements, to be computed once a tile: all, or those of one mod, or of keys, where all
    /// are more than `fits`. Not where that code stays long, which kernels loop over. Returns the terms that there are.
    pub(super) fn stage(
        &mut self,
        simple_distances: bool,
        fits: impl Fn(StagedTerms) -> bool,
    ) -> StagedTerms {
        // Interval masks and lines have no code an element.
        let of = |code: &Option<ModCode<'_>>, has_code: bool, simple_distances: bool| match code {
            Some(code) if has_code => StagedNodes::of(code, simple_distances),
            _ => StagedNodes::default(),
        };
        let [mask_has_code, score_has_code] = [self.kept_keys.is_none(), self.key_line.is_none()];
        let others = [of(&self.mask, mask_has_code, false), of(&self.score, score_has_code, false)];
        if !simple_distances && others.iter().all(StagedNodes::is_empty) {
            return StagedTerms::default();
        }
        let (mask, score) = (of(&self.mask, mask_has_code, true), of(&self.score, score_has_code, true));
        let none = StagedNodes::default();
        let choices = [
            [mask.clone(), score.clone()],
            [none.clone(), score.clone()],
            [mask.clone(), none.clone()],
            [mask.keys_only(), score.keys_only()],
            [none.clone(), none],
        ];
        let (mut all, last) = (None, choices.len() - 1);
        for (n, [mask, score]) in choices.into_iter().enumerate() {
            self.mask.iter_mut().for_each(|code| code.staged = mask.clone());
            self.score.iter_mut().for_each(|code| code.staged = score.clone());
            let terms = self.staged_terms();
            all.get_or_insert(terms);
            let is_long = length::is_long([&self.mask, &self.score].into_iter().flatten());
            if n == last || terms.any() && fits(terms) && !is_long {
                break;
            }
        }
        all.unwrap_or_default()
    }

    /// How many terms are staged.
    pub(super) fn staged_terms(&self) -> StagedTerms {
        let mut terms = StagedTerms::default();
        for code in [&self.mask, &self.score].into_iter().flatten() {
            terms.of_keys += code.staged.of_keys.len() as u32;
            terms.of_distances += code.staged.of_distances.len() as u32;
        }
        terms
    }

    fn exponent_scale_function(&self) -> String {
        let mut lines = String::new();
        let value = match self.exponent_scale {
            ExponentScale::Constant(1.0) => return lines,
            ExponentScale::Constant(factor) => literal(Scalar::F32(factor)).text,
            ExponentScale::Launch => {
                format!("{} * p.scale", literal(Scalar::F32(std::f32::consts::LOG2_E)).text)
            }
            ExponentScale::Captured(_) => {
                let code = self.captured_scale.as_ref().expect("given with such a scale");
                let mut scope = Scope::new(code);
                scope.compute(&[code.expr.root()]);
                let value = scope.value(code.expr.root()).text.clone();
                lines = scope.into_lines();
                value
            }
        };
        format!(
            "\n    static __device__ __forceinline__ float exponent_scale({SIGNATURE}) {{\n{lines}        return {value};\n    }}\n"
        )
    }

    fn key_line_function(&self) -> String {
        let Some(parts) = &self.key_line else { return String::new() };
        let mut out = format!(
            "\n    static __device__ __forceinline__ float2 key_line({SIGNATURE}, const Row& row, int b, int h, int q) {{\n"
        );
        let mut names = Vec::new();
        for (code, name) in parts.iter().zip(["slope", "offset"]) {
            let mut scope = Scope::new(code);
            let root = code.expr.root();
            scope.compute(&[root]);
            let value = scope.value(root).text.clone();
            out += &format!("        float {name};\n        {{\n");
            out += &scope.into_lines().lines().map(|line| format!("    {line}\n")).collect::<String>();
            out += &format!("            {name} = {value};\n        }}\n");
            names.push(name);
        }
        out + &format!("        return {{{}}};\n    }}\n", names.join(", "))
    }

    fn kept_keys_function(&self) -> String {
        let head = format!(
            "\n    static __device__ __forceinline__ int2 kept_keys({SIGNATURE}, const Row& row, int b, int h, int q) {{\n"
        );
        if self.kept_keys_from_table {
            return head
                + "        const BlockMask& m = p.block_mask;\n"
                + "        return m.kept_keys[b * (long long)m.kept_batch_rows + h * (long long)m.kept_head_rows + q];\n    }\n";
        }
        let (Some(code), Some(conditions)) = (&self.mask, &self.kept_keys) else {
            return head + "        return {0, p.kv_len};\n    }\n";
        };
        let mut scope = Scope::new(code);
        provide(&mut scope, code, Level::Row, "row");
        let mut roots = Vec::new();
        for condition in conditions {
            match *condition {
                Condition::Row { holds, .. } => roots.push(holds),
                Condition::AtLeast(bound) | Condition::AtMost(bound) => {
                    roots.push(bound.other);
                    match bound.side {
                        KeySide::Minus(row) | KeySide::From(row) => roots.push(row),
                        KeySide::Plain => {}
                    }
                }
            }
        }
        scope.compute(&roots);
        scope.line("long long first = 0, end = p.kv_len;");
        for condition in conditions {
            let line = match *condition {
                Condition::Row { holds, wanted } => {
                    let holds = scope.value(holds).operand();
                    format!("end = {holds} ? {} ;", if wanted { "end : 0" } else { "0 : end" })
                        .replace(" ;", ";")
                }
                Condition::AtLeast(bound) => {
                    format!("first = larger(first, {});", bound_text(&scope, bound, bound.step))
                }
                Condition::AtMost(bound) => {
                    format!("end = smaller(end, {});", bound_text(&scope, bound, bound.step + 1))
                }
            };
            scope.line(&line);
        }
        scope.line("end = larger(end, 0);");
        scope.line("return {int(smaller(first, end)), int(end)};");
        head + &scope.into_lines() + "    }\n"
    }
}

fn bound_text(scope: &Scope<'_>, bound: super::kept_keys::Bound, step: i64) -> String {
    let other = &scope.value(bound.other).text;
    let mut text = match bound.side {
        KeySide::Plain => format!("(long long)({other})"),
        KeySide::Minus(row) => format!("(long long)({other}) + {}", scope.value(row).operand()),
        KeySide::From(row) => {
            format!("(long long)({}) - {}", scope.value(row).text, scope.value(bound.other).operand())
        }
    };
    if step != 0 {
        write!(text, " {} {}", if step < 0 { '-' } else { '+' }, step.abs()).expect("writing to a string");
    }
    text
}

/// The nodes of a level that code of the elements reads.
fn kept_nodes(code: &ModCode<'_>, level: Level) -> Vec<NodeId> {
    let expr = code.expr;
    let mut wanted = vec![false; expr.nodes().len()];
    wanted[expr.root().index()] = true;
    for id in expr.ids().rev().filter(|&id| code.level(id) == Level::Element) {
        if !wanted[id.index()] || code.staged.of_distances.contains(&id) {
            continue;
        }
        code.for_each_operand(id, |operand| wanted[operand.index()] = true);
    }
    expr.ids()
        .filter(|&id| wanted[id.index()] && code.level(id) == level && is_worth_keeping(code, id))
        .collect()
}

fn provide(scope: &mut Scope<'_>, code: &ModCode<'_>, level: Level, owner: &str) {
    for id in kept_nodes(code, level) {
        scope.provide(id, owner);
    }
}

fn part_struct(name: &str, part: &[(&ModCode<'_>, Vec<NodeId>)]) -> String {
    let mut fields = String::new();
    for (code, ids) in part {
        for &id in ids {
            writeln!(fields, "        {} {};", field_type(code, id), code.name(id))
                .expect("writing to a string");
            if code.may_fault(id) {
                writeln!(fields, "        long long {}_fault;", code.name(id)).expect("writing to a string");
            }
        }
    }
    match fields.is_empty() {
        true => format!("\n    struct {name} {{}};\n"),
        false => format!("\n    struct {name} {{\n{fields}    }};\n"),
    }
}

fn part_function(
    ty: &str,
    name: &str,
    position: &str,
    part: &[(&ModCode<'_>, Vec<NodeId>)],
    is_staged: bool,
) -> String {
    let indices = position == "kv" && part.iter().any(|(code, _)| code.takes_indices());
    let position_ty = if indices { "Index" } else { "int" };
    let staged = if is_staged { "const KeyTerms& key, " } else { "" };
    let mut out = format!(
        "\n    static __device__ __forceinline__ {ty} {name}({SIGNATURE}, {staged}int b, int h, {position_ty} {position}) {{\n"
    );
    writeln!(out, "        {ty} {name}{{}};").expect("writing to a string");
    for (code, ids) in part {
        let mut scope = Scope::of_elements(code, indices);
        code.staged.of_keys.iter().for_each(|&id| scope.provide_staged(id, KEY_TERMS.variable));
        scope.compute(ids);
        for &id in ids {
            let value = scope.value(id).text.clone();
            scope.line(&format!("{name}.{} = {value};", code.name(id)));
            if let Some(fault) = scope.fault(id).map(str::to_owned) {
                scope.line(&format!("{name}.{}_fault = {fault};", code.name(id)));
            }
        }
        out += &scope.into_lines();
    }
    out + &format!("        return {name};\n    }}\n")
}

fn element_function(
    ty: &str,
    name: &str,
    score: &str,
    code: Option<&ModCode<'_>>,
    default: &str,
    is_staged: bool,
) -> String {
    let indices = code.is_some_and(ModCode::takes_indices);
    let index = if indices { "Index" } else { "int" };
    let staged = if is_staged { "const DistanceTerms& distance, " } else { "" };
    let mut out = format!(
        "\n    static __device__ __forceinline__ {ty} {name}({SIGNATURE}, const Row& row, const Column& column, {staged}{score}int b, int h, \
         {index} q, {index} kv, bool live) {{\n"
    );
    let Some(code) = code else { return out + &format!("        return {default};\n    }}\n") };
    let mut scope = Scope::of_elements(code, indices);
    provide(&mut scope, code, Level::Row, "row");
    provide(&mut scope, code, Level::Column, "column");
    code.staged.of_distances.iter().for_each(|&id| scope.provide_staged(id, DISTANCE_TERMS.variable));
    let root = code.expr.root();
    scope.compute(&[root]);
    if let Some(fault) = scope.fault(root).map(str::to_owned) {
        scope.line(&format!("if (live & ({fault} != 0)) record_fault(p, {fault}, b, h, q, kv);"));
    }
    let value = scope.value(root).text.clone();
    scope.line(&format!("return {value};"));
    out += &scope.into_lines();
    out + "    }\n"
}
