//! Commands, keys and channels that the ACL of a user denies, and the rule to add.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A denied action.
#[derive(Debug)]
pub(crate) struct Denied {
    /// The error from the server.
    error: RedisError,
    what: What,
}

#[derive(Debug)]
enum What {
    Command(String),
    /// A command at this line of a script. Servers before 7.2 do not report its name.
    AtLine(usize),
    Key,
    Channel,
}

/// The user that the rules are for, and the prefix of its keys.
pub(super) struct User {
    pub(super) name: String,
    pub(super) prefix: String,
}

impl Denied {
    /// Reads a permission error. In a script's error, the cause is only in the text.
    pub(super) fn of(error: &RedisError, text: &str) -> Option<Self> {
        let is_one = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
            || [
                "NOPERM",
                "ACL failure",
                "The user executing the script can't",
            ]
            .iter()
            .any(|sign| text.contains(sign));
        is_one.then(|| Self {
            error: error.clone(),
            what: What::read(text),
        })
    }

    /// The error, with the rule to add. `script` is the code of the script that was called.
    pub(super) fn explain(&self, script: Option<&str>, user: &User) -> String {
        self.explain_as(&self.error.to_string(), script, user)
    }

    /// Like [`explain`](Self::explain), with another text of the error.
    pub(super) fn explain_as(&self, error: &str, script: Option<&str>, user: &User) -> String {
        let User { name, prefix } = user;
        let rules = match &self.what {
            What::Command(command) => format!("+{command}"),
            What::AtLine(line) => match rules_at(script.unwrap_or_default(), *line) {
                Some(rules) => rules,
                None => "+@all -@dangerous".to_owned(),
            },
            What::Key => format!("~{prefix}:*"),
            What::Channel => format!("&{prefix}:*"),
        };
        format!(
            "the ACL of user `{name}` denies this: {error}: allow it with `ACL SETUSER {name} {rules}`"
        )
    }

    /// The error from the server.
    pub(super) fn into_error(self) -> RedisError {
        self.error
    }
}

impl What {
    fn read(text: &str) -> Self {
        let between = |begin: &str, end: &str| {
            let (_, rest) = text.split_once(begin)?;
            Some(rest.split_once(end)?.0)
        };
        if let Some(command) = between("run the '", "'") {
            Self::Command(command.to_lowercase())
        } else if text.contains("run this command") {
            let line = text
                .split_once("@user_script:")
                .map_or("", |(_, rest)| rest);
            let digits = line
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(line.len());
            Self::AtLine(line[..digits].parse().unwrap_or(0))
        } else if text.contains("channel") {
            Self::Channel
        } else {
            Self::Key
        }
    }
}

/// Rules for the commands in a line of a script, or for the complete script if that line only passes an error on.
fn rules_at(script: &str, line: usize) -> Option<String> {
    let code = script.lines().nth(line.checked_sub(1)?)?;
    rules_of(code).or_else(|| rules_of(script))
}

/// Rules for all commands in this code.
fn rules_of(code: &str) -> Option<String> {
    let mut rules = Vec::new();
    for call in code.split("redis.call(").skip(1) {
        let name = match call.strip_prefix('\'') {
            Some(call) => call.split('\'').next()?.to_lowercase(),
            // Scripts receive the publish command as an argument.
            None if call.starts_with("publish") => "publish".into(),
            None => return None,
        };
        let rule = format!("+{name}");
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    (!rules.is_empty()).then(|| rules.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, script: &str) -> String {
        let user = User {
            name: "ada".into(),
            prefix: "shop".into(),
        };
        let denied = Denied {
            error: RedisError::from((ErrorKind::Client, "denied", text.to_owned())),
            what: What::read(text),
        };
        denied
            .explain(Some(script), &user)
            .rsplit("SETUSER ")
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn each_server_version_of_a_denial_yields_the_rule_to_add() {
        for (text, rule) in [
            (
                "NOPERM: this user has no permissions to run the 'hset' command or its subcommand",
                "+hset",
            ),
            (
                "NOPERM: User ada has no permissions to run the 'client|setinfo' command",
                "+client|setinfo",
            ),
            (
                "ERR ACL failure in script: User a has no permissions to run the 'HSET' command script: on @user_script:2.",
                "+hset",
            ),
            (
                "@user_script:2: @user_script: 2: The user executing the script can't run this command or subcommand",
                "+hset +zadd",
            ),
            (
                "The user executing the script can't run this command or subcommand script: d0, on @user_script:3.",
                "+publish",
            ),
            (
                "The user executing the script can't run this command",
                "+@all -@dangerous",
            ),
            (
                "NOPERM: this user has no permissions to access one of the keys used as arguments",
                "~shop:*",
            ),
            (
                "ERR ACL failure in script: No permissions to access a key script: on @user_script:1.",
                "~shop:*",
            ),
            ("NOPERM: No permissions to access a channel", "&shop:*"),
            (
                "The user executing the script can't publish to the channel mentioned in the command",
                "&shop:*",
            ),
        ] {
            let script = "local a = 1\nif a then redis.call('HSET', a) redis.call('ZADD', b) end\nredis.call(publish, a)\nredis.call(range, a)";
            assert_eq!(explained(text, script), format!("ada {rule}`"), "{text}");
        }
    }
}
