//! What is known of a condition over a box.

/// What is known of the values of a condition over the points of a box: which of them may occur, and which are proved
/// to occur.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Truth(u8);

const MAY_BE_TRUE: u8 = 1;
const MAY_BE_FALSE: u8 = 2;
const IS_TRUE_SOMEWHERE: u8 = 4;
const IS_FALSE_SOMEWHERE: u8 = 8;

impl Truth {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(MAY_BE_TRUE | MAY_BE_FALSE);

    /// One and the same value at every point.
    pub const fn always(value: bool) -> Self {
        Self(if value { MAY_BE_TRUE | IS_TRUE_SOMEWHERE } else { MAY_BE_FALSE | IS_FALSE_SOMEWHERE })
    }

    /// Which values may occur and which are proved to occur. A value that is the only possible one occurs, since boxes
    /// are never empty.
    pub(crate) const fn new(may: [bool; 2], somewhere: [bool; 2]) -> Self {
        match may {
            [true, false] => Self::always(false),
            [false, true] => Self::always(true),
            _ => Self(Self::UNKNOWN.0 | (somewhere[1] as u8) << 2 | (somewhere[0] as u8) << 3),
        }
    }

    /// May be true, may be false, is true somewhere, is false somewhere; from the lowest bit on.
    pub(super) const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Whether the condition may have the value at some point.
    pub const fn may_be(self, value: bool) -> bool {
        self.0 & if value { MAY_BE_TRUE } else { MAY_BE_FALSE } != 0
    }

    /// Whether some point is proved to exist at which the condition has the value.
    pub const fn is_somewhere(self, value: bool) -> bool {
        self.0 & if value { IS_TRUE_SOMEWHERE } else { IS_FALSE_SOMEWHERE } != 0
    }

    /// Whether the condition has the value at every point.
    pub const fn is_always(self, value: bool) -> bool {
        !self.may_be(!value)
    }

    /// Whether both values are proved to occur.
    pub const fn is_mixed(self) -> bool {
        self.is_somewhere(true) && self.is_somewhere(false)
    }

    /// The same, without claims that a value occurs.
    pub(crate) const fn without_witnesses(self) -> Self {
        Self(self.0 & Self::UNKNOWN.0)
    }

    /// The negation at every point.
    pub const fn not(self) -> Self {
        Self((self.0 & 5) << 1 | (self.0 & 10) >> 1)
    }

    /// `if condition { accept } else { reject }` at every point; `independent_*` says that the branch and the condition
    /// depend on different indices, so that any two of their values occur together.
    pub(crate) const fn select(
        condition: Self,
        accept: Self,
        reject: Self,
        independent_accept: bool,
        independent_reject: bool,
    ) -> Self {
        if condition.is_always(true) {
            return accept;
        }
        if condition.is_always(false) {
            return reject;
        }
        const fn occurs(
            value: bool,
            condition: Truth,
            accept: Truth,
            reject: Truth,
            independent: [bool; 2],
        ) -> bool {
            let accepted = condition.is_somewhere(true)
                && (accept.is_always(value) || independent[0] && accept.is_somewhere(value));
            let rejected = condition.is_somewhere(false)
                && (reject.is_always(value) || independent[1] && reject.is_somewhere(value));
            // Where one branch always has the value, a point at which the other has it needs no condition.
            let either = reject.is_always(value) && accept.is_somewhere(value)
                || accept.is_always(value) && reject.is_somewhere(value);
            accepted || rejected || either
        }
        let independent = [independent_accept, independent_reject];
        Self::new(
            [accept.may_be(false) || reject.may_be(false), accept.may_be(true) || reject.may_be(true)],
            [
                occurs(false, condition, accept, reject, independent),
                occurs(true, condition, accept, reject, independent),
            ],
        )
    }

    /// `a && b`, both evaluated.
    pub(crate) const fn and(a: Self, b: Self, independent: bool) -> Self {
        Self::select(a, b, Self::always(false), independent, true)
    }

    /// `a || b`, both evaluated.
    pub(crate) const fn or(a: Self, b: Self, independent: bool) -> Self {
        Self::select(a, Self::always(true), b, true, independent)
    }
}

impl std::fmt::Debug for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.may_be(false), self.may_be(true)) {
            (true, false) => "always false",
            (false, true) => "always true",
            _ if self.is_mixed() => "mixed",
            _ if self.is_somewhere(true) => "somewhere true",
            _ if self.is_somewhere(false) => "somewhere false",
            _ => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every statement about three conditions holds for all small tables of their values that it is made from.
    #[test]
    fn selection_is_sound_on_every_table_of_three_points() {
        let facts = |table: [bool; 3]| {
            let has = |v| table.contains(&v);
            // From what is exactly known to what is barely known.
            [
                Truth::new([has(false), has(true)], [has(false), has(true)]),
                Truth::new([has(false), has(true)], [false, false]),
                Truth::UNKNOWN,
            ]
        };
        let tables = (0..8u8).map(|bits| [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0]);
        for c in tables.clone() {
            for a in tables.clone() {
                for r in tables.clone() {
                    let result: [bool; 3] = std::array::from_fn(|i| if c[i] { a[i] } else { r[i] });
                    for (fc, fa, fr) in (0..27).map(|i| (i / 9, i / 3 % 3, i % 3)) {
                        let truth = Truth::select(facts(c)[fc], facts(a)[fa], facts(r)[fr], false, false);
                        for value in [false, true] {
                            let occurs = result.contains(&value);
                            assert!(truth.may_be(value) || !occurs, "{c:?} {a:?} {r:?} {truth:?}");
                            assert!(occurs || !truth.is_somewhere(value), "{c:?} {a:?} {r:?} {truth:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn independent_conditions_are_mixed_together() {
        let mixed = Truth::new([true, true], [true, true]);
        assert!(Truth::and(mixed, mixed, true).is_mixed());
        assert!(Truth::or(mixed, mixed, true).is_mixed());
        assert!(!Truth::and(mixed, mixed, false).is_somewhere(true));
        assert_eq!(mixed.not(), mixed);
        assert_eq!(Truth::always(true).not(), Truth::always(false));
    }
}
