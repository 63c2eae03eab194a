//! Runs the example.

use std::process::Command;

const CHAPTER: &str = include_str!("../../docs/src/guide/crashes.md");

#[test]
fn the_double_charge_is_found_as_the_book_shows_and_the_key_prevents_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_double_charge"))
        .output()
        .expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    let (finding, summary) = text.split_once("\n\n").expect("two parts");
    assert!(
        CHAPTER.contains(&format!("```text\n{finding}\n```")),
        "the chapter does not show this finding:\n{finding}"
    );
    assert_eq!(
        summary,
        "with a key, the order is charged once: 5 crash points, 15 runs\n"
    );
}
