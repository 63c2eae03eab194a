//! Members of a group that could not be combined into one task.
//!
//! They leave their group with the failure recorded and are retried separately, so that the group can continue without
//! them. The number of tries is kept with them. If one of several must be the cause, they are split in halves until it
//! is alone.

use std::{sync::Arc, time::Duration};

use super::Shared;
use crate::{
    ambient,
    broker::{BrokerError, Group, Move, Replacement, SetApart, TaskInfo},
    codec::CodecName,
    task::{Envelope, Failure, FailureKind, TaskState},
};

/// How often members are tried together before they are split.
const TRIES: u32 = 3;

/// How long a group waits if the broker has no room for the change.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Why members could not be combined.
pub(super) enum Problem {
    /// The payloads of these members cannot be decoded, each for its own reason.
    Unreadable(Vec<(Arc<Envelope>, String)>),
    /// One or several of them must be the cause.
    OneOfThem(FailureKind, String),
    /// The combined task conflicts with another task.
    Conflict(String),
}

impl Problem {
    fn of(&self, member: &Arc<Envelope>) -> (FailureKind, String) {
        match self {
            Self::Unreadable(members) => {
                let mut members = members.iter();
                let reason = members.find(|(bad, _)| Arc::ptr_eq(bad, member));
                let reason = reason.map_or_else(String::new, |(_, reason)| reason.clone());
                (FailureKind::Decode, reason)
            }
            Self::OneOfThem(kind, reason) => (*kind, reason.clone()),
            Self::Conflict(reason) => (FailureKind::Error, reason.clone()),
        }
    }
}

impl Shared {
    /// Handles members that could not be combined. If the broker cannot set them apart, their group waits.
    pub(super) async fn failed_together(
        &self,
        group: Group,
        problem: Problem,
    ) -> Result<(), BrokerError> {
        match self.try_again_apart(&group, &problem).await {
            Err(error @ (BrokerError::Protocol(_) | BrokerError::Full(_))) => {
                self.postpone(&group, &error.to_string()).await
            }
            done => done,
        }
    }

    async fn try_again_apart(&self, group: &Group, problem: &Problem) -> Result<(), BrokerError> {
        let tries = group.tries().saturating_add(1);
        let cause_is_unknown = matches!(problem, Problem::OneOfThem(..)) && group.members.len() > 1;
        if cause_is_unknown {
            return match tries {
                ..TRIES => self.set_apart(group, &group.members, problem, tries).await,
                _ => self.halve(group, problem, tries).await,
            };
        }
        let is_over = |member: &Arc<Envelope>| tries > member.options.max_retry;
        let (over, left): (Vec<_>, Vec<_>) = group.members.iter().cloned().partition(is_over);
        self.archive(&over, problem).await?;
        self.set_apart(group, &left, problem, tries).await
    }

    /// Sets members apart until their next try.
    async fn set_apart(
        &self,
        group: &Group,
        members: &[Arc<Envelope>],
        problem: &Problem,
        tries: u32,
    ) -> Result<(), BrokerError> {
        let Some(first) = members.first() else {
            return Ok(());
        };
        let delay = first.options.backoff.delay(tries, ambient::random());
        let apart = self.apart(group, members, problem);
        let moved = self.broker.set_apart(SetApart {
            tries,
            delay,
            ..apart
        });
        if moved.await? > 0 {
            let (_, reason) = problem.of(first);
            tracing::warn!(queue = %group.queue, event = %group.event, group = %group.name, tasks = members.len(), tries,
                again_in = ?delay, reason, "could not combine the tasks of a group; they are retried separately");
        }
        Ok(())
    }

    /// Sets each half of the members apart, to be tried immediately. A single member gets all the tries of an ordinary
    /// task.
    async fn halve(&self, group: &Group, problem: &Problem, tries: u32) -> Result<(), BrokerError> {
        let (first, second) = group.members.split_at(group.members.len() / 2);
        for half in [first, second] {
            let apart = SetApart {
                tries: if half.len() > 1 { tries } else { 0 },
                ..self.apart(group, half, problem)
            };
            self.broker.set_apart(apart).await?;
        }
        let (queue, event, group, tasks) =
            (&group.queue, &group.event, &group.name, group.members.len());
        tracing::warn!(%queue, %event, %group, tasks, tries, "could not combine the tasks of a group; each half is tried separately");
        Ok(())
    }

    /// Members with their failure recorded. Members that this version cannot read stay unchanged.
    fn apart(&self, group: &Group, members: &[Arc<Envelope>], problem: &Problem) -> SetApart {
        let noted = |member: &Arc<Envelope>| {
            if member.codec == CodecName::unreadable() {
                Arc::clone(member)
            } else {
                self.noted(member, problem)
            }
        };
        SetApart {
            group: Group {
                members: members.to_vec(),
                ..group.clone()
            },
            members: members.iter().map(noted).collect(),
            tries: 0,
            delay: Duration::ZERO,
        }
    }

    fn noted(&self, member: &Arc<Envelope>, problem: &Problem) -> Arc<Envelope> {
        let mut envelope = Envelope::clone(member);
        envelope.attempts = envelope.attempts.saturating_add(1);
        let (kind, message) = problem.of(member);
        envelope.push_failure(Failure {
            attempt: envelope.attempts,
            started: None,
            at: self.broker.now(),
            kind,
            message,
            backtrace: None,
            worker: Some(self.worker.clone()),
        });
        Arc::new(envelope)
    }

    /// Archives members that have no tries left.
    async fn archive(
        &self,
        members: &[Arc<Envelope>],
        problem: &Problem,
    ) -> Result<(), BrokerError> {
        if members.is_empty() {
            return Ok(());
        }
        // `replace` compares against the current state, so read it first.
        let refs: Vec<_> = members.iter().map(|member| member.task_ref()).collect();
        let found = self.broker.tasks(&refs).await?;
        let change = |(member, found): (&Arc<Envelope>, Option<TaskInfo>)| {
            let seen = found.filter(|found| {
                found.state == TaskState::Aggregating && found.envelope == *member
            })?;
            Some(Replacement {
                envelope: self.noted(member, problem),
                to: Some(Move::Archived),
                seen,
            })
        };
        let changes: Vec<_> = members.iter().zip(found).filter_map(change).collect();
        let noted: Vec<_> = (changes.iter())
            .map(|change| Arc::clone(&change.envelope))
            .collect();
        let archived = self.broker.replace(changes).await?;
        for (task, _) in noted.iter().zip(archived).filter(|(_, archived)| *archived) {
            self.archived(task, false);
        }
        Ok(())
    }

    /// Postpones a group with all its members.
    pub(super) async fn postpone(&self, group: &Group, reason: &str) -> Result<(), BrokerError> {
        tracing::error!(queue = %group.queue, event = %group.event, group = %group.name, tasks = group.members.len(), reason,
            "could not combine the tasks of a group; retrying it later");
        self.broker.postpone(group, TRY_AGAIN).await
    }
}
