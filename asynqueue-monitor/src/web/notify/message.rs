//! The bodies of notifications.

use asynqueue_core::task::Timestamp;
use serde_json::{Value, json};

use super::ledger::Changes;
use crate::web::{attention::Concern, show};

/// The maximum number of problems in a notification.
const MOST: usize = 20;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    /// An object with the fields of `/api/attention`.
    Json,
    /// A text, which Slack, Mattermost and others show.
    Slack,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Slack => "Slack",
        }
    }

    /// A notification that reports nothing.
    pub(super) fn test(self, now: Timestamp) -> Value {
        match self {
            Self::Json => body(now, "test", &Changes::default()),
            Self::Slack => json!({ "text": "This is a test notification of asynqueue." }),
        }
    }
}

/// The notification of changes.
pub(super) fn message(format: Format, changes: &Changes, now: Timestamp) -> Value {
    match format {
        Format::Json => body(now, "attention", changes),
        Format::Slack => json!({ "text": text(changes) }),
    }
}

fn body(now: Timestamp, kind: &str, changes: &Changes) -> Value {
    let concern = |concern: &Concern| {
        let tasks = concern.tasks();
        json!({
            "kind": concern.kind,
            "about": concern.about,
            "queue": concern.queue,
            "state": tasks.map(|(_, state, _)| state.as_str()),
            "filter": tasks.map(|(_, _, filter)| filter.to_string()),
            "cause": concern.cause.map(|cause| cause.to_string()),
            "count": concern.count,
            "text": concern.text,
        })
    };
    let some = |all: &[Concern]| all.iter().take(MOST).map(concern).collect::<Vec<_>>();
    json!({
        "type": kind,
        "at": show::utc(now),
        "appeared": some(&changes.appeared),
        "cleared": some(&changes.cleared),
        "omitted": omitted(&changes.appeared) + omitted(&changes.cleared),
    })
}

fn omitted(all: &[Concern]) -> usize {
    all.len().saturating_sub(MOST)
}

fn text(changes: &Changes) -> String {
    let mut lines = Vec::new();
    let mut add = |title: &str, all: &[Concern]| {
        if all.is_empty() {
            return;
        }
        lines.push(format!("*{title}*"));
        let some = all.iter().take(MOST);
        lines.extend(some.map(|one| format!("• {}: {}", escaped(one.title()), escaped(&one.text))));
        if let more @ 1.. = omitted(all) {
            lines.push(format!("{more} more"));
        }
    };
    add("asynqueue needs attention", &changes.appeared);
    add("asynqueue: cleared", &changes.cleared);
    lines.join("\n")
}

/// Otherwise an error message could contain a link, or call everybody with `<!channel>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use asynqueue_core::{inspector::Filter, task::TaskState};

    use super::*;
    use crate::web::attention::Place;

    fn changes(appeared: usize) -> Changes {
        let concern = Concern {
            kind: "failing_cause",
            about: "card:charge 12".into(),
            weight: 7,
            count: 7,
            queue: Some("payments".into()),
            cause: None,
            place: Place::Tasks {
                queue: "payments".into(),
                state: TaskState::Archived,
                filter: Filter::default().error("no").into(),
            },
            text: "card:charge fails: <!channel> & more".into(),
        };
        Changes {
            appeared: vec![concern; appeared],
            cleared: Vec::new(),
        }
    }

    #[test]
    fn json_has_the_fields_of_the_api() {
        let now = Timestamp::default();
        let body = message(Format::Json, &changes(1), now);
        assert_eq!(
            body,
            json!({
                "type": "attention", "at": "1970-01-01T00:00:00.000Z", "cleared": [], "omitted": 0,
                "appeared": [{
                    "kind": "failing_cause", "about": "card:charge 12", "queue": "payments", "state": "archived",
                    "filter": "error~no", "cause": null, "count": 7, "text": "card:charge fails: <!channel> & more",
                }],
            })
        );
        let test = Format::Json.test(now);
        assert_eq!(
            (&test["type"], &test["appeared"]),
            (&json!("test"), &json!([]))
        );
    }

    #[test]
    fn text_for_a_chat_is_escaped() {
        let body = message(Format::Slack, &changes(1), Timestamp::default());
        let text = "*asynqueue needs attention*\n• payments: card:charge fails: &lt;!channel&gt; &amp; more";
        assert_eq!(body, json!({ "text": text }));
    }

    #[test]
    fn a_notification_is_bounded() {
        let body = message(Format::Json, &changes(25), Timestamp::default());
        let appeared = body["appeared"].as_array().expect("a list");
        assert_eq!((appeared.len(), &body["omitted"]), (20, &json!(5)));
        let body = message(Format::Slack, &changes(25), Timestamp::default());
        let text = body["text"].as_str().expect("text");
        assert!(
            text.lines().count() == 22 && text.ends_with("\n5 more"),
            "{text}"
        );
    }
}
