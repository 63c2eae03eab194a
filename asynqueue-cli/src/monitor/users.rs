//! The users of the monitor, from a file and from the environment. Each line is `name:role:password`, with a password or
//! its argon2 hash.

use std::{collections::BTreeSet, env, fs::File, io::Read, path::Path};

use asynqueue::{layer::BoxError, monitor::Role};

/// The variable with the same lines as a file.
const VARIABLE: &str = "ASYNQUEUE_MONITOR_USERS";

/// The longest file that is read. It stops at `/dev/zero`, and at files that were named by mistake.
const LONGEST: u64 = 1 << 20;

/// A name, a password or its hash, and a role.
pub(super) type Account = (String, String, Role);

/// The users in a file and in the environment.
///
/// # Errors
///
/// If one of them names no user, so that the monitor is never open by mistake, or if it is invalid. Messages contain no
/// password.
pub(super) fn read(file: Option<&Path>) -> Result<Vec<Account>, BoxError> {
    let mut accounts = Vec::new();
    if let Some(path) = file {
        let name = format!("`{}`", path.display());
        let text = text_of(path, &name)?;
        accounts.extend(parse(&name, &text)?);
    }
    match env::var(VARIABLE) {
        Ok(text) => accounts.extend(parse(&format!("`{VARIABLE}`"), &text)?),
        Err(env::VarError::NotPresent) => {}
        Err(env::VarError::NotUnicode(_)) => {
            return Err(format!("`{VARIABLE}` is not valid UTF-8").into());
        }
    }
    let mut names = BTreeSet::new();
    for (name, _, _) in &accounts {
        if !names.insert(name) {
            return Err(format!("user `{name}` is defined twice: remove one of them").into());
        }
    }
    Ok(accounts)
}

/// The content of a file that not everyone can read.
fn text_of(path: &Path, name: &str) -> Result<String, BoxError> {
    let failed = |error| format!("cannot read the users in {name}: {error}");
    let file = File::open(path).map_err(failed)?;
    refuse_world_readable(&file, name)?;
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

#[cfg(unix)]
fn refuse_world_readable(file: &File, name: &str) -> Result<(), BoxError> {
    use std::os::unix::fs::MetadataExt;

    let mode = file.metadata()?.mode() & 0o7777;
    match mode & 0o004 {
        0 => Ok(()),
        _ => Err(format!(
            "every user of this machine can read the passwords in {name} (mode {mode:o}): run `chmod o-r` on it, or mount \
             the secret with `defaultMode: 0440`"
        )
        .into()),
    }
}

#[cfg(not(unix))]
fn refuse_world_readable(_: &File, _: &str) -> Result<(), BoxError> {
    Ok(())
}

/// The users in lines. Empty lines and those that start with `#` are ignored.
fn parse(source: &str, text: &str) -> Result<Vec<Account>, BoxError> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let accounts: Result<Vec<_>, BoxError> = lines
        .map(|(at, line)| account(line).map_err(|why| invalid(source, at, &why)))
        .collect();
    match accounts? {
        none if none.is_empty() => Err(format!(
            "{source} has no users: expected lines such as `ada:admin:PASSWORD`"
        )
        .into()),
        accounts => Ok(accounts),
    }
}

fn invalid(source: &str, at: usize, why: &str) -> BoxError {
    format!("{source}, line {}: {why}", at + 1).into()
}

fn account(line: &str) -> Result<Account, String> {
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(password)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err("expected `name:role:password`, where the role is `viewer` or `admin`".into());
    };
    let name = name.trim();
    let role = match role.trim() {
        "viewer" => Role::Viewer,
        "admin" => Role::Admin,
        // It is a part of the password if the role was left out.
        _ => {
            return Err(format!(
                "user `{name}` has no known role: expected `viewer` or `admin` after the name"
            ));
        }
    };
    Ok((name.to_owned(), password.to_owned(), role))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("`users`", text).expect_err(text).to_string()
    }

    #[test]
    fn a_line_is_a_name_a_role_and_a_password_or_hash() {
        let text = "# the team\nada:admin:a:b c \n\nguest: viewer :$argon2id$v=19$m=16,t=2,p=1$c2FsdA$aGFzaA\r\n";
        let accounts = parse("`users`", text).expect("valid");
        assert_eq!(
            accounts,
            [
                ("ada".into(), "a:b c ".into(), Role::Admin),
                (
                    "guest".into(),
                    "$argon2id$v=19$m=16,t=2,p=1$c2FsdA$aGFzaA".into(),
                    Role::Viewer
                ),
            ]
        );
    }

    #[test]
    fn an_error_names_the_line_and_never_a_password() {
        assert_eq!(
            error("# a\nada:hunter2"),
            "`users`, line 2: expected `name:role:password`, where the role is `viewer` or `admin`"
        );
        assert_eq!(
            error("ada:hunter2:x"),
            "`users`, line 1: user `ada` has no known role: expected `viewer` or `admin` after the name"
        );
        for none in ["", "\n# nobody\n"] {
            assert_eq!(
                error(none),
                "`users` has no users: expected lines such as `ada:admin:PASSWORD`"
            );
        }
    }
}
