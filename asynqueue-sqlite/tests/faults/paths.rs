//! Unusual paths, and several paths to one file.

use std::{env, fs};

use asynqueue_core::broker::{Signal, Store};
use asynqueue_core::task::Name;
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use futures_util::StreamExt;

use crate::common::{self, Scratch};

#[tokio::test]
async fn a_path_may_have_any_characters() {
    for name in [
        "with spaces",
        "what?",
        "100%",
        "a%20b",
        "#1",
        "größe 数据 🗄",
        "file:x?mode=memory",
        "'quoted'",
        "a\"b",
    ] {
        let scratch = Scratch::new();
        let folder = scratch.folder().join(name);
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join(name);
        let broker = common::open(&path).await;
        common::enqueue(&broker, "task").await.expect("a task");
        let other = common::open(&path).await;
        assert_eq!(common::drain(&other).await, ["task"], "{name}");
        assert!(path.is_file(), "{name}");
        let names = fs::read_dir(&folder).expect("a folder").count();
        assert_eq!(
            names, 4,
            "{name}: the file, its log, its index and the folder of processes"
        );

        let text = path.to_str().expect("UTF-8");
        let encode = |text: &str| {
            let text = text.replace('%', "%25").replace('?', "%3F");
            text.replace('#', "%23")
        };
        let url = format!("sqlite://{}", encode(text));
        let by_url = SqliteBroker::connect(SqliteOptions::new(&url).expect("a URL")).await;
        common::work(&by_url.expect("a broker"), "by-url").await;
    }
}

#[tokio::test]
async fn processes_wake_each_other_through_a_link_to_the_file_and_on_long_paths() {
    let scratch = Scratch::new();
    let deep = scratch.folder().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).expect("a folder");
    let file = deep.join("tasks.db");
    let link = scratch.folder().join("link.db");
    let linked_folder = scratch.folder().join("linked");
    let first = common::open(&file).await;
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    std::os::unix::fs::symlink(&deep, &linked_folder).expect("a link");

    for path in [
        link,
        linked_folder.join("tasks.db"),
        deep.join("../../link.db"),
        file,
    ] {
        let other = common::open(&path).await;
        let mut signals = first.signals(&["q".into()]).await.expect("signals");
        common::enqueue(&other, "task").await.expect("a task");
        let signal = tokio::time::timeout(common::LIMIT, signals.next()).await;
        let signal = signal.expect("it is woken").expect("a signal");
        assert_eq!(signal, Signal::Pending(Name::from("q")), "{path:?}");
        assert_eq!(common::drain(&first).await, ["task"]);
        other.close().await;
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_replaced_file() {
    let scratch = Scratch::new();
    let link = scratch.folder().join("current.db");
    for name in ["one.db", "two.db"] {
        common::open(scratch.folder().join(name))
            .await
            .close()
            .await;
    }
    std::os::unix::fs::symlink("one.db", &link).expect("a link");
    let broker = common::open(&link).await;
    common::work(&broker, "task").await;
    fs::remove_file(&link).expect("a link");
    std::os::unix::fs::symlink("two.db", &link).expect("a link");
    let error = common::enqueue(&broker, "refused")
        .await
        .expect_err("another file");
    assert!(
        error.to_string().contains("was replaced by another file"),
        "{error}"
    );
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused() {
    let scratch = Scratch::new();
    let deep = (0..5).fold(scratch.folder().to_owned(), |path, _| {
        path.join("d".repeat(100))
    });
    fs::create_dir_all(&deep).expect("a folder");
    let path = deep.join("tasks.db");
    let error = common::try_open(&path).await.expect_err("it is too long");
    assert_eq!(
        error.to_string(),
        format!(
            "the path `{}` has {} bytes: SQLite supports up to 500, so use a shorter one",
            path.display(),
            path.as_os_str().len()
        )
    );
}

#[tokio::test]
async fn a_folder_or_a_path_without_folder_is_refused() {
    let scratch = Scratch::new();
    let error = common::try_open(scratch.folder())
        .await
        .expect_err("a folder");
    let name = scratch.folder().display();
    assert_eq!(
        error.to_string(),
        format!("`{name}` is a folder: name a file in it, such as `{name}/tasks.db`")
    );
    let error = common::try_open(scratch.folder().join("no/tasks.db")).await;
    assert_eq!(
        error.expect_err("no folder").to_string(),
        format!(
            "cannot use the folder `{name}/no` of the database: entity not found: create it, or name another path"
        )
    );
}

/// The only test here that changes the working directory; no other one uses relative paths.
#[tokio::test]
async fn a_relative_path_is_that_of_the_moment_it_was_opened() {
    let scratch = Scratch::new();
    let elsewhere = scratch.folder().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    env::set_current_dir(scratch.folder()).expect("a folder");
    let broker = common::open("tasks.db").await;
    env::set_current_dir(&elsewhere).expect("a folder");
    common::work(&broker, "task").await;
    assert!(scratch.file().is_file());
    assert_eq!(fs::read_dir(&elsewhere).expect("a folder").count(), 0);
    env::set_current_dir("/").expect("a folder");
}
