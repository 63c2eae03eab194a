//! Suggestions for input fields. A list is limited to what is used most, because a page holds all of it.

use std::{cmp::Reverse, collections::BTreeMap};

use asynqueue_core::task::Envelope;

/// The maximum number of suggestions.
const MOST: usize = 60;

/// The most used values of some with their number of uses, in this order. Those used equally often are sorted by value.
pub(super) fn most_used<T: Ord>(uses: impl IntoIterator<Item = (T, usize)>) -> Vec<T> {
    let mut counts = BTreeMap::new();
    for (value, count) in uses {
        *counts.entry(value).or_insert(0) += count;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    // Stable, so that the values stay sorted.
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.truncate(MOST);
    counts.into_iter().map(|(value, _)| value).collect()
}

/// Terms of a filter for some tasks: their events, the events of servers, and their headers. A value that only one task
/// has, such as the id of a request, is left to the user.
pub(super) fn suggested<'e>(
    tasks: &[&Envelope],
    of_servers: impl Iterator<Item = &'e str>,
) -> Vec<String> {
    let event = |event: &str| format!("event={}", quoted(event));
    let of_tasks = tasks.iter().map(|task| (event(&task.event), 1));
    let of_servers = of_servers.map(|name| (event(name), 0));
    let mut headers = BTreeMap::new();
    for (name, value) in tasks.iter().flat_map(|task| task.headers.iter()) {
        *headers.entry((name, value)).or_insert(0) += 1;
    }
    let headers = headers
        .into_iter()
        .filter(|((name, _), _)| *name != "traceparent");
    let headers = headers.map(|((name, value), count)| match count {
        1 => (format!("header.{name}="), count),
        _ => (format!("header.{name}={}", quoted(value)), count),
    });
    let always = ["id=", "text~", "payload~", "error~", "age>1h", "age<5m"];
    let always = always.into_iter().map(str::to_owned);
    let found = most_used(of_tasks.chain(of_servers).chain(headers));
    always.chain(found).collect()
}

/// Quotes a value for a filter if necessary.
fn quoted(value: &str) -> String {
    if value.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\') {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::{
        codec::{CodecName, Json},
        task::TaskId,
    };

    use super::*;

    fn task(event: &str, headers: &[(&str, &str)]) -> Envelope {
        let (id, codec) = (TaskId::generate(), CodecName::of::<Json>());
        let mut task = Envelope::new(id, event, codec, Vec::new().into());
        for (name, value) in headers {
            task.headers.insert(*name, *value);
        }
        task
    }

    #[test]
    fn values_that_tasks_share_are_suggested_and_names_of_the_other_headers() {
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let (request, tenant) = (format!("req-{n}"), ["acme", "big corp"][n % 2]);
                let headers = [
                    ("request-id", &*request),
                    ("tenant", tenant),
                    ("a-once", "x"),
                ];
                task("send", if n == 0 { &headers } else { &headers[..2] })
            })
            .collect();
        let tasks: Vec<_> = tasks.iter().collect();
        let terms = suggested(&tasks, ["other"].into_iter());
        let expected = [
            "event=send",
            "header.request-id=",
            "header.tenant=\"big corp\"",
            "header.tenant=acme",
            "header.a-once=",
            "event=other",
        ];
        assert_eq!(terms[6..], expected);
    }

    #[test]
    fn a_long_list_keeps_what_is_used_most() {
        let rare = (0..500).map(|n| (format!("a{n:03}"), 1));
        let often = [("z".to_owned(), 2), ("y".to_owned(), 3)];
        let kept = most_used(rare.chain(often));
        assert_eq!((kept.len(), &*kept[0], &*kept[1]), (MOST, "y", "z"));
        assert_eq!(kept[2], "a000");
    }
}
