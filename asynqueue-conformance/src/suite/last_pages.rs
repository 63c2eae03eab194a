//! Lists that are read from their end.

use asynqueue_core::{
    broker::{Cursor, Page},
    task::TaskState::{self, Pending},
};

use super::{
    Harness,
    fixture::{Fixture, QUEUE, STATES, prioritised, secs, task, task_ref, tasks},
    inspect::{in_pages, put_seven_in_each_state},
};

/// The ids of a page from the end of a list, and where the next one starts.
async fn last(
    f: &Fixture<'_>,
    state: TaskState,
    limit: usize,
    after: Option<Cursor>,
) -> (Vec<String>, Option<Cursor>) {
    let (queue, page) = (QUEUE.into(), Page::last(limit).after(after));
    let page = f.broker.list(&queue, state, page).await.unwrap();
    let ids = page.tasks.iter().map(|info| info.envelope.id.to_string());
    (ids.collect(), page.next)
}

/// In every state, whatever the size of the pages.
pub async fn the_pages_from_the_end_are_the_reverse_of_the_list(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    put_seven_in_each_state(&f).await;
    for state in STATES {
        let mut whole = f.list(state).await;
        assert_eq!(whole.len(), 7, "{state}");
        whole.reverse();
        // A page that ends with the list is the last one.
        for limit in [1, 3, 7, 8] {
            let pages = in_pages(&f, state, Page::last(limit)).await;
            assert_eq!(pages, whole, "{state} in pages of {limit}");
        }
    }
}

/// The lowest priority and the last turn first.
pub async fn the_last_page_has_the_tasks_that_run_last(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([
        task("first"),
        prioritised("urgent", 3),
        prioritised("soon", 1),
        task("newest"),
    ])
    .await;
    f.enqueue_after(task("later"), secs(20)).await;
    f.enqueue_after(task("sooner"), secs(10)).await;
    let (ids, next) = last(&f, Pending, 3, None).await;
    assert_eq!(ids, ["newest", "first", "soon"]);
    let (ids, next) = last(&f, Pending, 3, next).await;
    assert_eq!((ids, next), (vec!["urgent".to_owned()], None));
    let (ids, _) = last(&f, TaskState::Scheduled, 1, None).await;
    assert_eq!(ids, ["later"]);
}

/// Tasks leave a queue at its other end.
pub async fn leases_do_not_move_the_pages_from_the_end(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["1", "2", "3", "4", "5", "6", "7"])).await;
    let (ids, next) = last(&f, Pending, 3, None).await;
    assert_eq!(ids, ["7", "6", "5"]);
    assert_eq!(f.lease(2).await.len(), 2);
    let (ids, next) = last(&f, Pending, 3, next).await;
    assert_eq!((ids, next), (vec!["4".to_owned(), "3".to_owned()], None));
}

/// Tasks join a queue at this end, so every page but the first would repeat tasks.
pub async fn new_tasks_do_not_move_the_pages_from_the_end(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([prioritised("urgent", 3), prioritised("soon", 3)])
        .await;
    f.enqueue(tasks(["1", "2", "3"])).await;
    let (mut ids, mut next) = last(&f, Pending, 1, None).await;
    for n in 0..4 {
        let new = ["new", "newer"].map(|name| task(&format!("{name}-{n}")));
        f.enqueue(new).await;
        let (more, after) = last(&f, Pending, 1, next).await;
        ids.extend(more);
        next = after;
    }
    assert_eq!(ids, ["3", "2", "1", "soon", "urgent"]);
    assert_eq!(next, None);
}

/// Whether they were deleted, or enqueued again under the same id.
pub async fn tasks_that_left_a_queue_are_not_in_its_pages_from_the_end(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let names = (0..12).map(|n| prioritised(&n.to_string(), u8::from(n % 4 == 3)));
    f.enqueue(names).await;
    let gone = ["11", "10", "8", "5", "4", "3", "0"].map(task_ref);
    assert_eq!(f.broker.delete(&gone).await.unwrap(), [true; 7]);
    f.enqueue(tasks(["5", "8"])).await;
    let expected = ["8", "5", "9", "6", "2", "1", "7"];
    for limit in [1, 2, 100] {
        let pages = in_pages(&f, Pending, Page::last(limit)).await;
        assert_eq!(pages, expected, "in pages of {limit}");
    }
    let urgent = [task_ref("7")];
    assert_eq!(f.broker.delete(&urgent).await.unwrap(), [true]);
    assert_eq!(f.lease(1).await[0].envelope.id.as_str(), "1");
    let (ids, next) = last(&f, Pending, 4, None).await;
    assert_eq!((ids.len(), next.is_some()), (4, true));
    let (ids, next) = last(&f, Pending, 1, next).await;
    assert_eq!((ids, next), (vec!["2".to_owned()], None));
    // A page that only left-over entries follow is the last one.
    assert_eq!(f.broker.delete(&[task_ref("2")]).await.unwrap(), [true]);
    let (ids, next) = last(&f, Pending, 4, None).await;
    assert_eq!((ids.len(), next), (4, None));
}
