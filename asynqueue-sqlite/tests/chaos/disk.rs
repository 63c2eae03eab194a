//! The disk of a database: the real one, or a small one in memory that can be full.
//!
//! A user may mount such a disk in a namespace where the user counts as root. So the test runs itself again in one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Set inside the namespace.
const INSIDE: &str = "ASYNQUEUE_CHAOS_INSIDE";

/// Room for a log that other programs do not let SQLite start anew. Memory is used for what is written.
const SIZE: &str = "size=1g";

/// The program that starts another one in a namespace.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--mount", "--"];

/// Runs a test of this binary in another namespace, and prints its output. Returns false if this process is already in
/// there, or if the system does not allow it.
///
/// # Panics
///
/// If the test fails there.
pub(crate) fn run_where_mounting_is_allowed(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let probe = Command::new("unshare").args(UNSHARE).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(UNSHARE);
    if Path::new("/usr/bin/setpriv").exists() {
        // It ends with this process, even if this one is killed.
        command.args(["/usr/bin/setpriv", "--pdeathsig", "KILL"]);
    }
    let this = std::env::current_exe().expect("this program");
    command.arg(this).args(["--exact", "--nocapture", test]);
    let ended = command.env(INSIDE, "1").output().expect("it starts");
    print!("{}", String::from_utf8_lossy(&ended.stdout));
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{errors}");
    true
}

/// A folder for a database.
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    pub(crate) is_small: bool,
}

impl Disk {
    pub(crate) fn real(dir: &Path) -> Self {
        let folder = dir.join("disk");
        fs::create_dir(&folder).expect("a folder");
        Self {
            folder,
            is_small: false,
        }
    }

    /// A small disk, or the real one if the system does not allow it.
    pub(crate) fn small(dir: &Path) -> Self {
        let mut disk = Self::real(dir);
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", SIZE, "chaos"])
            .arg(&disk.folder);
        disk.is_small = mount.output().is_ok_and(|mounted| mounted.status.success());
        if !disk.is_small {
            println!("this system lets no user mount a disk: no fault `full`");
        }
        disk
    }

    /// Leaves no room for more than there is now. Returns whether that is so: another process may write just now.
    pub(crate) fn fill(&self) -> bool {
        let used = Command::new("df")
            .args(["-k", "--output=used"])
            .arg(&self.folder)
            .output();
        let used = String::from_utf8(used.expect("df runs").stdout).expect("text");
        let used = used.lines().last().expect("a number").trim();
        self.resize(&format!("size={used}k"))
    }

    /// Gives it room again.
    pub(crate) fn free(&self) {
        assert!(self.resize(SIZE), "the disk takes its old size");
    }

    fn resize(&self, size: &str) -> bool {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", &format!("remount,{size}")])
            .arg(&self.folder);
        mount.output().expect("mount runs").status.success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_small {
            // At the latest it ends with the namespace.
            // Lazily: a connection may not be closed yet.
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(&self.folder)
                .output();
        }
    }
}
