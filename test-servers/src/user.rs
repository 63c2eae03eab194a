//! The user that a server runs as: PostgreSQL and PgBouncer refuse to run as root.

use std::{
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// The users that root runs such a server as, by preference.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A user that a server runs as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    /// The user of the tests.
    Current,
    /// Another user and its group.
    Other(u32, u32),
}

impl User {
    /// The user of the tests unless that is root, otherwise a user without privileges.
    pub(crate) fn unprivileged() -> Self {
        if current_id() != 0 {
            return Self::Current;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let ids = |name: &str| {
            let fields = |line: &str| line.split(':').map(String::from).collect::<Vec<_>>();
            let user = users.lines().map(fields).find(|user| user[0] == name)?;
            Some(Self::Other(user[2].parse().ok()?, user[3].parse().ok()?))
        };
        UNPRIVILEGED.into_iter().find_map(ids).unwrap_or_else(|| {
            panic!("root needs one of the users {UNPRIVILEGED:?} to run PostgreSQL as")
        })
    }

    /// A command that this user runs.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Self::Other(user, group) = self {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes this user the owner of a file or a folder.
    pub(crate) fn own(self, path: &Path) {
        if let Self::Other(user, group) = self {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

/// The id of the user of the tests: the owner of a file that this process creates.
pub(crate) fn current_id() -> u32 {
    let file = tempfile::tempfile().unwrap();
    file.metadata().unwrap().uid()
}
