//! Errors as users see them: printed by a `main` that returns one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use asynqueue::{
    BrokerError, ConnectError, EnqueueError, MemoryBroker, Server, prelude::*,
    producer::ResultError,
};

/// What a `fn main() -> Result<(), E>` prints after `Error: `.
fn printed(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

#[tokio::test]
async fn a_main_that_cannot_connect_prints_what_to_do() {
    let error = asynqueue::connect("http://localhost").await;
    let error: BoxError = error.expect_err("not a broker").into();
    assert_eq!(printed(&error), error.to_string());
    assert!(
        printed(&error).contains("expected `memory:`, `sqlite://…`, `postgres://…` or `redis://…`"),
        "{error:?}"
    );
    let error = ConnectError::Feature {
        scheme: "redis".into(),
        feature: "redis",
    };
    assert_eq!(
        printed(error),
        "cannot connect to `redis://…`: this program is built without that broker: enable the feature `redis` of asynqueue"
    );
}

#[tokio::test]
async fn a_url_without_a_scheme_is_completed_and_shows_no_password() {
    for (url, example) in [
        ("localhost:6379", "redis://localhost:6379"),
        ("localhost", "redis://localhost"),
        ("redis:6379", "redis://redis:6379"),
        ("redis:localhost:6379", "redis://localhost:6379"),
        ("redis:/localhost", "redis://localhost"),
        ("[::1]:6379/2", "redis://[::1]:6379/2"),
        ("memory", "memory:"),
        ("tasks.db", "sqlite://tasks.db"),
        ("/var/lib/shop.sqlite3", "sqlite:///var/lib/shop.sqlite3"),
        ("ada:SECRET@tasks.db", "redis://host:6379"),
        ("", "redis://host:6379"),
        ("SECRET@myhost:6379", "redis://host:6379"),
        ("ada:SECRET@myhost:6379", "redis://host:6379"),
        ("redis:SECRET@myhost", "redis://host:6379"),
        ("SECRET@myhost://", "redis://host:6379"),
        ("ada:SECRET://myhost", "redis://host:6379"),
        ("ada:SECRET", "redis://host:6379"),
        ("[::1]", "redis://[::1]"),
        ("a:1,b:2", "redis://a:1,b:2"),
        ("myhost:6379?sentinel_password=SECRET", "redis://host:6379"),
    ] {
        let error = asynqueue::connect(url).await.expect_err(url);
        assert_eq!(
            error.to_string(),
            format!("the broker URL has no scheme: write `{example}`")
        );
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_url_of_redis_with_a_secret_in_its_scheme_does_not_show_it() {
    let error = asynqueue::connect("redis:SECRET@myhost://").await;
    let error = error.expect_err("not a scheme").to_string();
    assert!(!error.contains("SECRET"), "{error}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_main_that_finds_no_redis_prints_its_address() {
    let error = asynqueue::connect("redis://127.0.0.1:1").await;
    let error: BoxError = error.expect_err("no server listens there").into();
    let text = printed(&error);
    assert!(
        text.starts_with("cannot reach Redis at 127.0.0.1:1: "),
        "{text}"
    );
}

#[test]
fn an_error_prints_its_causes_once_each() {
    let error = Server::builder(MemoryBroker::new()).concurrency(0);
    let error = error.build().expect_err("no slots");
    assert_eq!(printed(&error), error.to_string());

    let nested = ResultError::NotEnqueued(Box::new(EnqueueError::Broker(BrokerError::Closed)));
    assert_eq!(
        printed(nested),
        "the broker is closed: connect again to continue"
    );

    let cause = io::Error::other("no route");
    let wrapped = BrokerError::unavailable("db:1: no route: check the address").caused_by(cause);
    assert_eq!(
        printed(wrapped),
        "the broker is unavailable: db:1: no route: check the address"
    );

    let cause = io::Error::other("no such user");
    let error = TaskError::from(io::Error::new(io::ErrorKind::NotFound, cause));
    assert_eq!(printed(error), "no such user");
}

/// Reads the source files of all crates, so that errors added later are checked too.
#[test]
fn no_error_prints_its_fields_instead_of_its_message() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.expect("the workspace");
    let mut errors = 0;
    for source in sources(root) {
        let text = fs::read_to_string(&source).expect("readable");
        let code = text.split("#[cfg(test)]\nmod tests").next();
        let lines = code.unwrap_or_default().lines();
        let code: String = lines
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        for derive in code.split("#[derive(").skip(1) {
            let traits = derive.split(')').next().unwrap_or_default();
            let mut traits = traits.split(',').map(str::trim);
            if traits.clone().any(|name| name.ends_with("Error")) {
                errors += 1;
                assert!(
                    traits.all(|name| name != "Debug"),
                    "an error in {} derives `Debug`, which `main` prints: call `debug_as_text!` for it",
                    source.display()
                );
            }
        }
    }
    assert!(errors > 20, "only {errors} errors were found");
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let crates = fs::read_dir(root).expect("the workspace");
    let mut folders: Vec<_> = crates
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("asynqueue")
        })
        .map(|path| path.join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                _ => {}
            }
        }
    }
    found
}
