//! What may happen to a file, and to the processes that use it: each fault gives an error that names the file and the
//! remedy, loses nothing that was accepted, and is over when its cause is.

#[path = "../common/mod.rs"]
mod common;

mod damaged;
mod disk;
mod gone;
mod isolated;
mod lifecycle;
mod locked;
mod paths;
mod suspended;
mod tables;

use std::path::Path;

/// What this binary does in other processes.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some((role, file)) = common::child::role() else {
        return;
    };
    let file = Path::new(&file);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match role.as_str() {
            "full" => disk::on_a_full_disk(file).await,
            "limited" => disk::beyond_the_limit(file).await,
            "read-only" => disk::on_a_read_only_disk(file).await,
            "migrate" => tables::migrate_and_work(file).await,
            "hold" => suspended::hold_transactions(file),
            "turn" => suspended::hold_the_turn(file),
            role => panic!("unknown role {role}"),
        }
    });
}
