//! Ids that are unique among the processes that serve monitors. Behind a balancer, a request may reach another process
//! than the page that it comes from.

use std::{
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The name of this process: host, process id and a random number. The last of them is for containers, which often have
/// the same process id after a restart.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let host = hostname::get().unwrap_or_default();
    let host: String = host
        .to_string_lossy()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let host = if host.is_empty() { "monitor" } else { &host };
    // Without randomness, host and process id remain.
    let random = getrandom::u32().unwrap_or_default();
    format!("{host}-{}-{:04x}", process::id(), random & 0xffff)
});

/// The id of a new job. Each has another number, also among the monitors of one process.
pub(super) fn next_job() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{}-{}", *NAME, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Why this process has no job with an id.
pub(super) fn missing_job(id: &str) -> String {
    let of = id.rsplit_once('-').filter(|(process, number)| {
        process.contains('-') && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    });
    match of {
        Some((process, _)) if process != *NAME => format!(
            "job `{id}` belongs to the monitor process `{process}`, and this is `{}`: send the request to that process, \
             or configure the balancer to send all requests of a browser to the same process",
            *NAME
        ),
        _ => format!("job `{id}` does not exist, or ended long ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_another_process_is_not_one_of_this() {
        let (first, second) = (next_job(), next_job());
        assert_ne!(first, second);
        assert!(missing_job(&first).ends_with("does not exist, or ended long ago"));
        let other = missing_job("web-2-4711-9f3c-1");
        let parts = ["belongs to the monitor process `web-2-4711-9f3c`", &NAME];
        assert!(parts.iter().all(|part| other.contains(part)), "{other}");
        for unknown in ["", "7", "a", "a-1", "--", "a-b-c"] {
            let why = missing_job(unknown);
            assert!(!why.contains("belongs"), "{why}");
        }
    }
}
