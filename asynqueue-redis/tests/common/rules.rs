//! The users in the book's page on Redis permissions, parsed from the page.
#![allow(dead_code, reason = "each test uses some of it")]

use asynqueue_test_servers::RedisServer;
use redis::cmd;

/// A user from one of the lines on the page.
#[derive(Clone, Copy)]
pub(crate) enum Rules {
    /// Most commands.
    Short,
    /// Only the required commands, by name.
    ByName,
}

impl Rules {
    /// The words after `ACL`.
    pub(crate) fn words(self) -> Vec<String> {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/src/operations/redis-access.md"
        );
        let page = std::fs::read_to_string(page).expect("the page on permissions");
        let line = page
            .lines()
            .filter_map(|line| line.strip_prefix("ACL "))
            .nth(self as usize)
            .expect("a line `ACL SETUSER …` in the page");
        line.split(' ').map(String::from).collect()
    }

    /// Creates the user, with additional rules. Its password is `secret`.
    pub(crate) async fn apply(self, server: &RedisServer, more: &[&str]) {
        let mut admin = server.connection().await;
        let mut acl = cmd("ACL");
        acl.arg(self.words()).arg(more);
        let _: () = acl.query_async(&mut admin).await.expect("a user");
    }
}

/// The URL with the user in it.
pub(crate) fn as_user(url: &str) -> String {
    url.replacen("://", "://asynqueue:secret@", 1)
}
