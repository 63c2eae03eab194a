//! What the compiler reports about invalid attributes and handlers. The `.stderr` file of each case has the messages.
//!
//! Valid ones are the programs in `valid`: a case that must compile here would make this test build all dependencies.

#[test]
fn every_mistake_is_reported_in_its_place() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/task/*.rs");
    cases.compile_fail("tests/ui/from_state/*.rs");
    cases.compile_fail("tests/ui/handler/*.rs");
}
