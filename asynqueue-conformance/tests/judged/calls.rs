//! Calls of one queue, with responses.

use std::{ops::Range, sync::Arc, time::Duration};

use asynqueue_conformance::history::{Answer, Call, Client, Request};
use asynqueue_core::{
    broker::{
        Change, Edit, Edited, Extended, LeaseToken, Leased, NewTask, Outcome, Settled, Settlement,
        TaskInfo, Version, When,
    },
    codec::{CodecName, MessagePack},
    task::{Envelope, TaskId, TaskRef, TaskState, Timestamp},
};
use bytes::Bytes;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn of(id: &str) -> TaskRef {
    TaskRef::new("left", TaskId::new(id).expect("an id"))
}

pub(crate) fn task(id: &str) -> Arc<Envelope> {
    let (id, codec) = (
        TaskId::new(id).expect("an id"),
        CodecName::of::<MessagePack>(),
    );
    let mut task = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
    task.queue = "left".into();
    Arc::new(task)
}

/// A call of client 0 with a response; start and end are as in `1..2`.
pub(crate) fn call(time: Range<u64>, request: Request, answer: Answer) -> Call {
    Call {
        client: Client {
            number: 0,
            process: 0,
        },
        begin: time.start,
        end: Some(time.end),
        took: Duration::from_secs(time.end - time.start),
        request,
        answer: Some(Ok(answer)),
    }
}

/// The same call, failed.
pub(crate) fn failed(mut call: Call) -> Call {
    call.answer = Some(Err("away".into()));
    call
}

/// The same call of another client.
pub(crate) fn by(number: usize, mut call: Call) -> Call {
    call.client.number = number;
    call
}

pub(crate) fn enqueue(time: Range<u64>, id: &str) -> Call {
    let task = NewTask::new(Envelope::clone(&task(id)), When::Now);
    call(
        time,
        Request::Enqueue(vec![task]),
        Answer::Enqueued(vec![Ok(())]),
    )
}

/// A lease of up to two tasks, with the returned tokens.
pub(crate) fn lease(time: Range<u64>, tasks: &[(&str, u64)]) -> Call {
    let leased = |(id, token): &(&str, u64)| {
        let mut leased = Leased::new(task(id), LeaseToken(*token), Timestamp::default());
        leased.pending_since = Some(Timestamp::default());
        leased
    };
    let queues = vec![("left".into(), 2)];
    let answer = Answer::Leased(vec![Ok(tasks.iter().map(leased).collect())]);
    call(
        time,
        Request::Lease {
            queues,
            lease: HOUR,
        },
        answer,
    )
}

/// The same lease, as the response to a repeated request.
pub(crate) fn again(mut call: Call) -> Call {
    if let Some(Ok(Answer::Leased(queues))) = &mut call.answer {
        for leased in queues.iter_mut().flatten().flatten() {
            leased.pending_since = None;
        }
    }
    call
}

pub(crate) fn settlement(id: &str, token: u64, outcome: Outcome) -> Settlement {
    let task = task(id);
    Settlement {
        leased: Arc::clone(&task),
        envelope: task,
        token: LeaseToken(token),
        outcome,
        only_if_expired: false,
    }
}

pub(crate) fn settle(time: Range<u64>, settlement: &Settlement, answer: Settled) -> Call {
    let request = Request::Settle(vec![settlement.clone()]);
    call(time, request, Answer::Settled(vec![Ok(answer)]))
}

pub(crate) fn extend(time: Range<u64>, id: &str, token: u64, by: Duration) -> Call {
    let lease = Leased::new(task(id), LeaseToken(token), Timestamp::default()).lease();
    let answer = Answer::Extended(vec![Ok(Extended::Yes)]);
    call(time, Request::Extend(vec![lease], by), answer)
}

pub(crate) fn look(time: Range<u64>, id: &str, state: Option<TaskState>) -> Call {
    let found = state.map(|state| TaskInfo::new(task(id), state, Version(1)));
    call(
        time,
        Request::Look(vec![of(id)]),
        Answer::Looked(vec![found]),
    )
}

pub(crate) fn edit(time: Range<u64>, id: &str, change: Change, answer: Edited) -> Call {
    let seen = TaskInfo::new(task(id), TaskState::Pending, Version(1));
    let request = Request::Edit(vec![Edit { seen, change }]);
    call(time, request, Answer::Edited(vec![answer]))
}

pub(crate) fn complete(id: &str, token: u64) -> Settlement {
    settlement(id, token, Outcome::Complete { result: None })
}

/// A task with another payload, which an edit or an outcome writes.
pub(crate) fn edited(id: &str) -> Arc<Envelope> {
    let mut task = Envelope::clone(&task(id));
    task.payload = Bytes::from_static(b"edited");
    Arc::new(task)
}

/// The same lease, which returns a task with the other payload.
pub(crate) fn of_edited(id: &str, mut call: Call) -> Call {
    if let Some(Ok(Answer::Leased(queues))) = &mut call.answer {
        let leased = queues.iter_mut().flatten().flatten();
        for leased in leased.filter(|leased| leased.envelope.id.as_str() == id) {
            leased.envelope = edited(id);
        }
    }
    call
}
