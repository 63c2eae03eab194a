//! Characters in untrusted text that change its direction.

use asynqueue_core::{
    inspector::{Action, ActionOutcome},
    producer::Producer,
    task::{TaskId, TaskRef},
};
use serde_json::Value;

use super::site::{Email, Site};

/// Otherwise an override in a payload, a header or an error turns around the text behind it.
#[tokio::test]
async fn characters_that_change_the_direction_of_text_are_shown_as_escapes() {
    const TURNED: &str = "photo\u{202e}gpj.exe";
    let site = Site::new().await;
    let producer = Producer::new(site.broker.clone());
    let email = Email { to: TURNED.into() };
    let enqueue = producer.enqueue(email).id("turned");
    enqueue.header("file", TURNED).await.expect("accepted");
    let task = TaskRef::new("mail", TaskId::new("turned").expect("an id"));
    let archive = Action::Archive(TURNED.into());
    let outcomes = site.inspector.apply(&archive, &[task]).await;
    assert_eq!(outcomes.expect("a result"), [ActionOutcome::Done]);
    for path in ["/queues/mail?state=archived", "/queues/mail/tasks/turned"] {
        let page = site.page(path).await;
        assert!(page.contains("photo\\u202egpj.exe"), "{path}: {page}");
        assert!(!page.contains('\u{202e}'), "{path}: {page}");
    }
    // The editor sends back the same payload, and a field the same text.
    let page = site.page("/queues/mail/tasks/turned").await;
    let (_, shown) = page.split_once("<textarea").expect("an editor");
    let (_, shown) = shown.split_once('>').expect("its content");
    let (shown, _) = shown.split_once("</textarea>").expect("its end");
    let payload: Value = serde_json::from_str(&shown.replace("&quot;", "\"")).expect("JSON");
    assert_eq!(payload["to"], TURNED);
    let page = site.page("/queues/mail?filter=payload~%E2%80%AE").await;
    assert!(page.contains("value=\"payload~\u{202e}\""), "{page}");
}
