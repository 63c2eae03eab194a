//! A fake mail server with typical failures. The emails that it has sent are the lines of a file.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    time::Duration,
};

/// A line for each sent email: the id of its user.
pub(crate) const SENT: &str = "welcome_email.sent";

pub(crate) struct Mailer {
    sent: File,
}

impl Mailer {
    pub(crate) fn open() -> io::Result<Self> {
        let sent = OpenOptions::new().create(true).append(true).open(SENT)?;
        Ok(Self { sent })
    }

    pub(crate) async fn welcome(&self, user_id: u64, attempt: u32) -> io::Result<()> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match user_id {
            13 => panic!("no template for user 13"),
            id if id % 200 == 0 => Err(io::Error::other("mailbox does not exist")),
            id if id % 10 == 0 && attempt < 3 => Err(io::Error::other("mail server is busy")),
            // In one write, so that lines stay complete.
            id => (&self.sent).write_all(format!("{id}\n").as_bytes()),
        }
    }
}

/// How often each user was sent an email.
pub(crate) fn sent() -> io::Result<BTreeMap<String, usize>> {
    let mut sent = BTreeMap::new();
    for user_id in fs::read_to_string(SENT)?.lines() {
        *sent.entry(user_id.to_owned()).or_default() += 1;
    }
    Ok(sent)
}
