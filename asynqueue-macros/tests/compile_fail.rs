//! What the compiler tells a user whose attributes are wrong: each message is held in a `.stderr` file beside its case.

#[test]
fn wrong_attributes_are_explained_where_they_stand() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/task/*.rs");
    cases.compile_fail("tests/ui/from_state/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
