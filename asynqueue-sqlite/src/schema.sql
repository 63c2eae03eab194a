-- Version 1. Every table is small beside `asynqueue_task`, whose rows are written once and deleted once on the way of
-- a task: a lease deletes from `asynqueue_ready` and adds to `asynqueue_lease`.

-- The version of these tables, and the last number given out: a token, a turn or the version of a document.
create table asynqueue_meta (
    one integer primary key check (one = 1),
    version integer not null,
    number integer not null
) strict;

-- A queue without a name was deleted; its rows are removed in pieces.
create table asynqueue_queue (
    id integer primary key,
    name text unique,
    is_used integer not null default 0,
    paused integer not null default 0,
    pending integer not null default 0,
    scheduled integer not null default 0,
    active integer not null default 0,
    retry integer not null default 0,
    completed integer not null default 0,
    archived integer not null default 0,
    aggregating integer not null default 0,
    succeeded integer not null default 0,
    failed integer not null default 0,
    lost integer not null default 0,
    archive_max integer,
    trimmed_by_count integer not null default 0,
    trimmed_by_age integer not null default 0,
    last_trimmed integer
) strict;

-- A task. `state` is 2 pending or active, 3 scheduled, 4 retry, 5 completed, 6 archived, 7 aggregating. `at` is when it
-- became pending, is due, will be deleted, was archived or joined its group. `turn` is its place among the pending
-- tasks, or the number of its group. A generated `id` is a blob of 16 bytes, any other is text. `flags` has
-- 1 if it releases a unique lock when it starts, and 2 if `asynqueue_change` has a row for it.
create table asynqueue_task (
    queue integer not null,
    id any not null,
    state integer not null,
    at integer not null,
    turn integer not null,
    flags integer not null,
    envelope blob not null,
    primary key (queue, id)
) strict, without rowid;

-- All tasks that are not pending or active, by time.
create index asynqueue_task_at on asynqueue_task (queue, state, at) where state > 2;

-- The members of groups.
create index asynqueue_task_group on asynqueue_task (queue, turn, at) where state = 7;

-- The pending tasks in the order they are leased. `rank` is the negative priority.
create table asynqueue_ready (
    queue integer not null,
    rank integer not null,
    turn integer not null,
    id any not null,
    primary key (queue, rank, turn)
) strict, without rowid;

-- The active tasks.
create table asynqueue_lease (
    queue integer not null,
    id any not null,
    token integer not null,
    until integer not null,
    worker text not null,
    primary key (queue, id)
) strict, without rowid;

-- What was reported about an active task.
create table asynqueue_running (
    queue integer not null,
    id any not null,
    cancel text,
    progress blob,
    primary key (queue, id)
) strict, without rowid;

-- What workers have changed in a task, and its result.
create table asynqueue_change (
    queue integer not null,
    id any not null,
    changes blob,
    result blob,
    primary key (queue, id)
) strict, without rowid;

create table asynqueue_lock (
    queue integer not null,
    key text not null,
    holder any not null,
    until integer not null,
    primary key (queue, key)
) strict, without rowid;

create index asynqueue_lock_until on asynqueue_lock (queue, until);

-- Groups, and parts of groups: `first` is the id of the first member of a part, or an empty text.
create table asynqueue_group (
    id integer primary key,
    queue integer not null,
    event text not null,
    name text not null,
    first any not null,
    tries integer not null,
    size integer not null,
    oldest integer not null,
    due integer not null,
    delay integer
) strict;

create unique index asynqueue_group_name on asynqueue_group (queue, event, name, first, tries);
create index asynqueue_group_due on asynqueue_group (queue, due);

-- The last tick of each guard.
create table asynqueue_tick (
    queue integer not null,
    guard text not null,
    tick integer not null,
    primary key (queue, guard)
) strict, without rowid;

create table asynqueue_hour (
    queue integer not null,
    hour integer not null,
    succeeded integer not null,
    failed integer not null,
    lost integer not null,
    primary key (queue, hour)
) strict, without rowid;

-- The statistics of other stores that were added to a queue.
create table asynqueue_absorbed (
    queue integer not null,
    id text not null,
    primary key (queue, id)
) strict, without rowid;

-- Tasks whose end a process waits for, and such a task that was completed and is not kept, with its result.
create table asynqueue_waiter (
    queue integer not null,
    id any not null,
    at integer not null,
    primary key (queue, id)
) strict, without rowid;

create table asynqueue_end (
    queue integer not null,
    id any not null,
    at integer not null,
    result blob,
    primary key (queue, id)
) strict, without rowid;

-- Leases that a handler has completed in its own transaction, until its server reports the outcome.
create table asynqueue_settled (
    token integer primary key,
    at integer not null
) strict;

-- Figures over time: `counts` is a list of slots and numbers.
create table asynqueue_point (
    series text not null,
    at integer not null,
    part text not null,
    key text not null,
    counts blob not null,
    note blob not null,
    primary key (series, at, part, key)
) strict, without rowid;

create table asynqueue_document (
    space text not null,
    name text not null,
    bytes blob not null,
    due integer,
    version integer not null,
    primary key (space, name)
) strict, without rowid;

create index asynqueue_document_due on asynqueue_document (space, due) where due is not null;
