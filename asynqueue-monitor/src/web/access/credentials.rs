//! User names and passwords.

use std::{collections::HashMap, fmt, sync::Arc};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version};
use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Role, User};

/// The maximum number of cached logins. The cache avoids a slow hash per request.
const MAX_KNOWN: usize = 1_000;

/// The maximum number of concurrent password verifications.
const MAX_CONCURRENT: usize = 4;

/// All users and their passwords.
pub(crate) struct Credentials {
    accounts: Vec<Account>,
    /// Users who have logged in, by the hash of their `Authorization` header.
    known: Mutex<HashMap<[u8; 32], User>>,
    /// Limits concurrent verifications.
    turns: Arc<Semaphore>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            known: Mutex::default(),
            turns: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }
}

#[derive(Clone)]
struct Account {
    user: User,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    /// The SHA-256 of a password. All digests have the same length, so comparison takes constant time.
    Plain([u8; 32]),
    /// An argon2 hash in PHC format.
    Argon2(String),
}

/// An invalid user name or password.
#[derive(thiserror::Error)]
pub(crate) enum InvalidAccount {
    /// The name is empty or contains a colon, which Basic authentication cannot send.
    #[error("the user name `{0}` is invalid: expected at least one character and no colon")]
    Name(String),
    /// The password is empty.
    #[error("the password of `{0}` is empty: set a password or its argon2 hash")]
    Empty(String),
    /// The password starts with `$argon2` and is not a valid hash.
    #[error(
        "the password of `{name}` is an invalid argon2 hash: {reason}; expected `$argon2id$v=19$m=…,t=…,p=…$salt$hash`"
    )]
    Hash {
        /// The user name.
        name: String,
        /// The error of the parser.
        reason: String,
    },
    /// The password is a hash of another algorithm, so nobody could log in with the password that was hashed.
    #[error(
        "the password of `{0}` looks like a hash that is not argon2: expected `$argon2id$…` or a plain password"
    )]
    OtherHash(String),
}

asynqueue_core::debug_as_text!(InvalidAccount);

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            accounts: self.accounts.clone(),
            ..Self::default()
        }
    }
}

impl Credentials {
    /// Adds a user with a password or its hash.
    pub(crate) fn add(
        &mut self,
        name: &str,
        password: &str,
        role: Role,
    ) -> Result<(), InvalidAccount> {
        if name.is_empty() || name.contains(':') {
            return Err(InvalidAccount::Name(name.to_owned()));
        }
        if password.is_empty() {
            return Err(InvalidAccount::Empty(name.to_owned()));
        }
        let secret = if password.starts_with("$argon2") {
            check_argon2(password).map_err(|reason| InvalidAccount::Hash {
                name: name.to_owned(),
                reason,
            })?;
            Secret::Argon2(password.to_owned())
        } else if is_other_hash(password) {
            return Err(InvalidAccount::OtherHash(name.to_owned()));
        } else {
            Secret::Plain(Sha256::digest(password).into())
        };
        let user = User {
            name: name.into(),
            role,
        };
        self.accounts.push(Account { user, secret });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The user who has logged in with this header before.
    pub(super) fn known(&self, header: &HeaderValue) -> Option<User> {
        let hash: [u8; 32] = Sha256::digest(header.as_bytes()).into();
        self.known.lock().get(&hash).cloned()
    }

    /// Waits for a permit to verify a password.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Verifies a header. This is slow and takes a lot of memory if passwords are argon2 hashes.
    pub(super) fn check(&self, header: &HeaderValue) -> Option<User> {
        let (name, password) = basic(header)?;
        let account = self
            .accounts
            .iter()
            .find(|account| *account.user.name == *name);
        // An unknown name takes as long as a wrong password, so that response times do not reveal user names.
        let mut slow = self.accounts.iter().filter(|account| account.is_slow());
        let candidate = account.or_else(|| slow.next()).or(self.accounts.first())?;
        let matches = candidate.secret.matches(&password);
        let user = account.filter(|_| matches)?.user.clone();
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(Sha256::digest(header.as_bytes()).into(), user.clone());
        Some(user)
    }
}

impl Account {
    fn is_slow(&self) -> bool {
        matches!(self.secret, Secret::Argon2(_))
    }
}

impl Secret {
    fn matches(&self, password: &str) -> bool {
        match self {
            Self::Plain(hash) => {
                let given: [u8; 32] = Sha256::digest(password).into();
                given.ct_eq(hash).into()
            }
            Self::Argon2(hash) => PasswordHash::new(hash).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(password.as_bytes(), &hash)
                    .is_ok()
            }),
        }
    }
}

/// Why no password can match this hash. The reason contains no part of the hash.
fn check_argon2(hash: &str) -> Result<(), String> {
    let hash = PasswordHash::new(hash).map_err(|error| error.to_string())?;
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|error| error.to_string())?;
    if let Some(version) = hash.version {
        Version::try_from(version).map_err(|error| error.to_string())?;
    }
    Params::try_from(&hash).map_err(|error| error.to_string())?;
    match (hash.salt, hash.hash) {
        (Some(_), Some(_)) => Ok(()),
        (None, _) => Err("the salt and the hash are missing".to_owned()),
        (Some(_), None) => Err("the hash after the salt is missing".to_owned()),
    }
}

/// Whether a password looks like the output of another algorithm: of crypt, as `$2b$12$…`, or in LDAP, as `{SSHA}…`.
fn is_other_hash(password: &str) -> bool {
    let is_marked = |start: char, end: char, is_name: fn(char) -> bool| {
        let marked = password.strip_prefix(start);
        let parts = marked.and_then(|rest| rest.split_once(end));
        parts.is_some_and(|(name, rest)| {
            !name.is_empty() && name.chars().all(is_name) && !rest.is_empty()
        })
    };
    is_marked('$', '$', |c| c.is_ascii_alphanumeric() || "-_".contains(c))
        || is_marked('{', '}', |c| {
            c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'
        })
}

/// The header that sends a user name and a password. `None` if they contain bytes that no header can have.
pub(super) fn header(name: &str, password: &str) -> Option<HeaderValue> {
    let encoded = STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {encoded}").parse().ok()
}

/// The user name and password of HTTP Basic authentication.
fn basic(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .accounts
            .iter()
            .map(|account| Arc::clone(&account.user.name));
        f.debug_list().entries(names).finish()
    }
}
