//! Runs the example.

use std::process::Command;

#[test]
fn a_thousand_emails_are_all_accounted_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_welcome_email"))
        .output()
        .expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for line in [
        "completed     993",
        "archived        7",
        "total        1000",
        "panic: panicked: no template for user 13",
        "unknown event: no handler is registered for event `email:newsletter`",
        "decode: invalid payload of `email:welcome`",
        "   4  error: mailbox does not exist",
    ] {
        assert!(text.contains(line), "`{line}` is missing in:\n{text}");
    }
}
