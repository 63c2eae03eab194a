//! The folder of a server's data: a copy of a template, because `initdb` takes longer than most tests.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::user::{User, current_id};

/// Where Debian installs each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A folder with the data of a server. It is removed on drop. If this process is killed before, the next test that
/// creates such a folder removes it.
#[derive(Debug)]
pub(super) struct Folder {
    user: User,
    folder: TempDir,
    /// Locked while this process lives.
    _lock: File,
}

impl Folder {
    /// A folder with the data of a new server.
    pub(super) fn create() -> Self {
        let this = Self::empty();
        let template = template(this.path().parent().unwrap(), this.user);
        let mut copy = this.user.command("cp");
        run(copy.arg("-a").arg(template).arg(this.data()));
        this
    }

    /// A folder with the data of a running server, whose standby it is.
    pub(super) fn of_standby(port: u16) -> Self {
        let this = Self::empty();
        let mut backup = this.user.command(&program("pg_basebackup"));
        backup
            .arg("--pgdata")
            .arg(this.data())
            .current_dir(this.path());
        let primary = format!("host=127.0.0.1 port={port} user=postgres");
        backup.args(["--dbname", &primary]);
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        run(&mut backup);
        this
    }

    fn empty() -> Self {
        let user = User::unprivileged();
        // The folder of this user is not in that of the build, which is not always readable by the server's user.
        let all = std::env::temp_dir().join(format!("asynqueue-postgres-{}", current_id()));
        std::fs::create_dir_all(&all).unwrap();
        let locked = File::create(all.join("lock")).unwrap();
        locked.lock().unwrap();
        remove_abandoned(&all);
        // While it is locked.
        template(&all, user);
        let folder = tempfile::Builder::new()
            .prefix("server-")
            .tempdir_in(&all)
            .unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        lock.lock().unwrap();
        drop(locked);
        user.own(folder.path());
        Self {
            user,
            folder,
            _lock: lock,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(super) fn user(&self) -> User {
        self.user
    }
}

/// Removes the folders of processes that were killed.
fn remove_abandoned(all: &Path) {
    for folder in std::fs::read_dir(all).unwrap() {
        let path = folder.unwrap().path();
        let is_abandoned = |lock: File| lock.try_lock().is_ok();
        if File::open(path.join("lock")).is_ok_and(is_abandoned) {
            // Fails while the server's processes are still ending. The next test tries again.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The folder of an initialised server of this version, which no server uses.
fn template(all: &Path, user: User) -> PathBuf {
    // `postgres (PostgreSQL) 17.6`, and sometimes more.
    let output = run(user.command(&program("postgres")).arg("--version"));
    let version = output.split_whitespace().nth(2).unwrap();
    let template = all.join(format!("template-{version}"));
    if template.exists() {
        return template;
    }
    let new = tempfile::tempdir_in(all).unwrap();
    user.own(new.path());
    let data = new.path().join("data");
    let mut initdb = user.command(&program("initdb"));
    initdb.arg("--pgdata").arg(&data).current_dir(new.path());
    initdb.args(["--username=postgres", "--auth=trust", "--no-sync"]);
    initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]);
    let major = version.split('.').next().unwrap().parse::<u32>().unwrap();
    if major >= 15 {
        // `C.UTF-8` sorts by bytes, and other locales of the system need not be installed.
        initdb.args(["--locale-provider=icu", "--icu-locale=en"]);
    }
    run(&mut initdb);
    std::fs::rename(&data, &template).unwrap();
    template
}

/// The path of a program of PostgreSQL: in the folder that `ASYNQUEUE_POSTGRES_BIN` names, otherwise in that of the
/// newest version that Debian has installed, otherwise on the path.
pub(super) fn program(name: &str) -> String {
    let chosen = std::env::var("ASYNQUEUE_POSTGRES_BIN").ok();
    let newest = || {
        let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
        let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        let bin = versions.map(|version| version.path());
        let bin = bin.filter(|path| path.join("bin").join(name).exists());
        Some(bin.max_by_key(version)?.join("bin"))
    };
    match chosen.map(PathBuf::from).or_else(newest) {
        Some(bin) => bin.join(name).to_str().unwrap().to_owned(),
        None => name.to_owned(),
    }
}

/// Runs a program to its end, and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}; scripts/test installs PostgreSQL")
    });
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
