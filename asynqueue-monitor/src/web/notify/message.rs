//! The bodies of notifications.

use asynqueue_core::task::Timestamp;
use serde_json::{Value, json};

use super::ledger::Changes;
use crate::web::{Shared, attention::Concern, direction::visible, show};

/// The maximum number of problems in a notification.
const MOST: usize = 20;

/// The installation and the broker that a notification is about. A chat may receive those of several.
#[derive(Debug)]
pub(super) struct Origin {
    title: String,
    name: Option<String>,
    broker: Option<String>,
}

impl Origin {
    pub(super) fn of(shared: &Shared) -> Self {
        let switcher = shared.switcher.as_ref();
        Self {
            title: shared.face.title().to_owned(),
            name: shared.face.name.clone(),
            broker: switcher.map(|switcher| switcher.this.clone()),
        }
    }

    /// The names in one line, such as `eu · production · asynqueue`, as in the titles of pages.
    fn line(&self) -> String {
        let (broker, name) = (self.broker.as_deref(), self.name.as_deref());
        let parts = [broker, name, Some(self.title.as_str())];
        escaped(&parts.into_iter().flatten().collect::<Vec<_>>().join(" · "))
    }
}

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
    pub(super) fn test(self, origin: &Origin, now: Timestamp) -> Value {
        match self {
            Self::Json => body(origin, now, "test", &Changes::default()),
            Self::Slack => {
                json!({ "text": format!("This is a test notification of {}.", origin.line()) })
            }
        }
    }
}

/// The notification of changes.
pub(super) fn message(format: Format, origin: &Origin, changes: &Changes, now: Timestamp) -> Value {
    match format {
        Format::Json => body(origin, now, "attention", changes),
        Format::Slack => json!({ "text": text(origin, changes) }),
    }
}

fn body(origin: &Origin, now: Timestamp, kind: &str, changes: &Changes) -> Value {
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
        "title": origin.title,
        "name": origin.name,
        "broker": origin.broker,
        "at": show::utc(now),
        "appeared": some(&changes.appeared),
        "cleared": some(&changes.cleared),
        "omitted": omitted(&changes.appeared) + omitted(&changes.cleared),
    })
}

fn omitted(all: &[Concern]) -> usize {
    all.len().saturating_sub(MOST)
}

fn text(origin: &Origin, changes: &Changes) -> String {
    let origin = origin.line();
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
    add(&format!("{origin} needs attention"), &changes.appeared);
    add(&format!("{origin}: cleared"), &changes.cleared);
    lines.join("\n")
}

/// Otherwise an error message could contain a link, call everybody with `<!channel>`, start a line that looks like another
/// problem, or turn around the text that follows.
fn escaped(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    visible(&line)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use asynqueue_core::{inspector::Filter, task::TaskState};

    use super::*;
    use crate::web::attention::Place;

    fn origin() -> Origin {
        Origin {
            title: "asynqueue".into(),
            name: None,
            broker: None,
        }
    }

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
            covers: Vec::new(),
            text: "card:charge fails: <!channel> & more".into(),
        };
        Changes {
            appeared: vec![concern; appeared],
            cleared: Vec::new(),
        }
    }

    #[test]
    fn a_problem_is_one_line_of_a_chat() {
        let mut changes = changes(1);
        changes.appeared[0].text = "no handler for `a\n• payments: all is\u{202e}well`".into();
        assert_eq!(
            text(&origin(), &changes).lines().nth(1),
            Some("• payments: no handler for `a • payments: all is\\u202ewell`")
        );
    }

    #[test]
    fn json_has_the_fields_of_the_api() {
        let now = Timestamp::default();
        let body = message(Format::Json, &origin(), &changes(1), now);
        assert_eq!(
            body,
            json!({
                "type": "attention", "title": "asynqueue", "name": null, "broker": null,
                "at": "1970-01-01T00:00:00.000Z", "cleared": [], "omitted": 0,
                "appeared": [{
                    "kind": "failing_cause", "about": "card:charge 12", "queue": "payments", "state": "archived",
                    "filter": "error~no", "cause": null, "count": 7, "text": "card:charge fails: <!channel> & more",
                }],
            })
        );
        let test = Format::Json.test(&origin(), now);
        assert_eq!(
            (&test["type"], &test["appeared"]),
            (&json!("test"), &json!([]))
        );
    }

    #[test]
    fn text_for_a_chat_is_escaped() {
        let body = message(Format::Slack, &origin(), &changes(1), Timestamp::default());
        let text = "*asynqueue needs attention*\n• payments: card:charge fails: &lt;!channel&gt; &amp; more";
        assert_eq!(body, json!({ "text": text }));
    }

    /// A channel often receives the notifications of production and of staging, and of several brokers.
    #[test]
    fn a_notification_names_its_installation_and_its_broker() {
        let origin = Origin {
            title: "Shop <tasks>".into(),
            name: Some("production".into()),
            broker: Some("eu".into()),
        };
        let body = message(Format::Slack, &origin, &changes(1), Timestamp::default());
        let text = body["text"].as_str().expect("text");
        let line = "*eu · production · Shop &lt;tasks&gt; needs attention*";
        assert_eq!(text.lines().next(), Some(line));
        let body = message(Format::Json, &origin, &changes(1), Timestamp::default());
        let names = [&body["title"], &body["name"], &body["broker"]];
        assert_eq!(names, ["Shop <tasks>", "production", "eu"]);
    }

    #[test]
    fn a_notification_is_bounded() {
        let body = message(Format::Json, &origin(), &changes(25), Timestamp::default());
        let appeared = body["appeared"].as_array().expect("a list");
        assert_eq!((appeared.len(), &body["omitted"]), (20, &json!(5)));
        let body = message(Format::Slack, &origin(), &changes(25), Timestamp::default());
        let text = body["text"].as_str().expect("text");
        assert!(
            text.lines().count() == 22 && text.ends_with("\n5 more"),
            "{text}"
        );
    }
}
