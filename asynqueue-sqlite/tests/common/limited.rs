//! Other processes that the system limits.

use std::{env, path::Path, process::Command};

use asynqueue_conformance::child::Child;

/// Runs a role in a namespace with its own mounts, prepared by a shell script whose `$1` is the folder of the file.
/// Returns false, and says so, where the system does not allow this.
pub(crate) fn run_mounted(role: &str, file: &Path, script: &str) -> bool {
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", script, "sh"]);
        command.arg(file.parent().expect("a folder"));
        command
    };
    let tried = isolated("mount -t tmpfs none \"$1\"").status();
    if !tried.is_ok_and(|tried| tried.success()) {
        eprintln!("left out: this system does not allow `unshare -Urm` and `mount`");
        return false;
    }
    let command = isolated(&format!("set -e; {script}; shift; exec \"$@\""));
    run(command, role, file);
    true
}

/// Runs a role below a shell script.
pub(crate) fn run_limited(role: &str, file: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$@\""), "sh"]);
    run(command, role, file);
}

fn run(mut command: Command, role: &str, file: &Path) {
    command.arg(env::current_exe().expect("a path"));
    Child::launch_by(command, role, file).end();
}
