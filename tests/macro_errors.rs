//! What the compiler says about mods with mistakes, and that those without compile cleanly.

#[test]
fn mistakes_are_explained_at_their_tokens() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
