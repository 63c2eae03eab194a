-- Version 1: the tables. Every other table is small beside `task`, whose rows are written once and deleted once on the
-- way of a task. A task is pending if its turn is in a range of `ready`; otherwise it has a row in `lease`, `later` or
-- `member`.

-- The version of the tables, and the oldest version of the library that can use them. The id distinguishes these tables
-- from those of any other schema or database, except of a copy.
create table asynqueue.meta (
    one boolean primary key default true check (one),
    version integer not null,
    usable_from integer not null,
    id uuid not null default gen_random_uuid()
);

-- Blocks of 1,024 numbers: the turns of a batch of tasks, and places in `ready`.
create sequence asynqueue.block increment by 1024;
-- The tokens of the leases of one call, and versions of documents.
create sequence asynqueue.token increment by 1024;

-- A queue without a name was deleted; its rows are removed in pieces. The counts are those of `tally` that were added
-- up so far.
create table asynqueue.queue (
    id integer generated always as identity primary key,
    name text collate "C" unique,
    is_used boolean not null default false,
    paused boolean not null default false,
    pending bigint not null default 0,
    scheduled bigint not null default 0,
    active bigint not null default 0,
    retry bigint not null default 0,
    completed bigint not null default 0,
    archived bigint not null default 0,
    aggregating bigint not null default 0,
    succeeded bigint not null default 0,
    failed bigint not null default 0,
    lost bigint not null default 0,
    archive_max bigint,
    trimmed_by_count bigint not null default 0,
    trimmed_by_age bigint not null default 0,
    last_trimmed bigint
);

-- What one transaction has added to the counts of a queue, so that transactions do not wait for each other.
create table asynqueue.tally (
    queue integer not null,
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
    hour integer
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- A generated `id` has 16 bytes; any other is its text, which ends with a byte or two that no text has. `rank` is the
-- negative priority. `holds` is 1 if the task releases the unique lock `key` when it starts, 2 when it ends, and 3 if
-- the lock has its time.
create table asynqueue.task (
    turn bigint primary key,
    queue integer not null,
    rank smallint not null,
    id bytea not null,
    envelope bytea not null,
    key text collate "C",
    holds smallint,
    unique (queue, id)
);

-- The pending tasks in the order they are leased: those of the queue with turns from `first` to `last`. Some turns of a
-- range may have no task. A range is where it was enqueued if `place` is `first`; otherwise it has one turn, which was
-- listed again.
create table asynqueue.ready (
    queue integer not null,
    rank smallint not null,
    place bigint not null,
    first bigint not null,
    last bigint not null,
    at bigint not null,
    primary key (queue, rank, place)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index ready_again on asynqueue.ready (first) where place <> first;

create table asynqueue.lease (
    turn bigint primary key,
    token bigint not null,
    until bigint not null,
    queue integer not null,
    worker text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

create index lease_until on asynqueue.lease (queue, until);

-- Tasks that wait for a time, and tasks that have ended. `state` is 3 scheduled, 4 retry, 5 completed, 6 archived. `at`
-- is when the task is due, will be deleted or was archived.
create table asynqueue.later (
    turn bigint primary key,
    at bigint not null,
    queue integer not null,
    state smallint not null,
    rank smallint not null
);

create index later_at on asynqueue.later (queue, state, at, turn);

-- Groups, and parts of groups: `first` is the id of the first member of a part, or empty.
create table asynqueue."group" (
    id integer generated always as identity primary key,
    queue integer not null,
    tries integer not null,
    event text collate "C" not null,
    name text collate "C" not null,
    first bytea not null,
    size integer not null,
    oldest bigint not null,
    due bigint not null,
    delay bigint,
    unique (queue, event, name, first, tries)
);

create index group_due on asynqueue."group" (queue, due);

-- Tasks that wait in their group, with the limits that it has if this member is its newest one.
create table asynqueue.member (
    turn bigint primary key,
    at bigint not null,
    max_delay bigint not null,
    grace bigint not null,
    "group" integer not null,
    max_size integer not null,
    id bytea not null
);

create index member_group on asynqueue.member ("group", at, id);

-- What was reported about an active task.
create table asynqueue.running (
    turn bigint primary key,
    cancel text,
    progress bytea
);

create index running_cancel on asynqueue.running (turn) where cancel is not null;

-- What workers have changed in a task, and its result.
create table asynqueue.change (
    turn bigint primary key,
    changes bytea,
    result bytea
);

create table asynqueue.lock (
    queue integer not null,
    key text collate "C" not null,
    until bigint not null,
    holder bytea not null,
    primary key (queue, key)
);

create index lock_until on asynqueue.lock (queue, until);

-- The last tick of each guard.
create table asynqueue.tick (
    queue integer not null,
    guard text collate "C" not null,
    tick bigint not null,
    primary key (queue, guard)
);

create table asynqueue.hour (
    queue integer not null,
    hour integer not null,
    succeeded bigint not null,
    failed bigint not null,
    lost bigint not null,
    primary key (queue, hour)
);

-- The statistics of other stores that were added to a queue.
create table asynqueue.absorbed (
    queue integer not null,
    id text collate "C" not null,
    primary key (queue, id)
);

-- Tasks whose end a process waits for, and such a task that was completed and is not kept, with its result.
create table asynqueue.waiter (
    queue integer not null,
    id bytea not null,
    at bigint not null,
    primary key (queue, id)
);

create table asynqueue."end" (
    queue integer not null,
    id bytea not null,
    at bigint not null,
    result bytea,
    primary key (queue, id)
);

-- Leases that a handler has completed in its own transaction, until its server reports the outcome.
create table asynqueue.settled (
    token bigint primary key,
    at bigint not null
);

-- The last calls of each lane. `response` is null if it is the usual one.
create table asynqueue.call (
    lane text collate "C" not null,
    number bigint not null,
    at bigint not null,
    response jsonb,
    primary key (lane, number)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Figures over time: each slot with its number.
create table asynqueue.point (
    series text collate "C" not null,
    at bigint not null,
    part text collate "C" not null,
    key text collate "C" not null,
    slots smallint[] not null,
    numbers bigint[] not null,
    note bytea not null,
    primary key (series, at, part, key)
);

create table asynqueue.document (
    space text collate "C" not null,
    name text collate "C" not null,
    version bigint not null,
    due bigint,
    bytes bytea not null,
    primary key (space, name)
);

create index document_due on asynqueue.document (space, due, name) where due is not null;
