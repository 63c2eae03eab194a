//! What the compiler reports about wrong attributes and handlers: each message is kept in a `.stderr` file beside its case.

#[test]
fn what_is_wrong_is_explained_where_it_stands() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/task/*.rs");
    cases.compile_fail("tests/ui/from_state/*.rs");
    cases.compile_fail("tests/ui/handler/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}
