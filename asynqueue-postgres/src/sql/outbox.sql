-- Version 1 of an outbox: tasks that wait in the application's own database until a relay has moved them to a broker.
-- They use nothing of the broker's tables, which need not exist.

-- One row.
create table asynqueue.outbox_meta (
    one boolean primary key default true check (one),
    -- The version of these tables, and the oldest version of the library that can use them.
    version integer not null,
    usable_from integer not null,
    -- Names this outbox in the queues that remember its last numbers. A copy of the database that has its own relay
    -- needs another one.
    id text not null default gen_random_uuid()::text,
    -- The last number that an entry got.
    last bigint not null default 0,
    -- The relay that has the turn, and the end of its turn in milliseconds since 1970.
    relay text,
    until bigint not null default 0
);

-- A row for each task, inserted by a transaction of the application. The relay deletes it once the broker has accepted
-- or refused the task.
create table asynqueue.outbox (
    -- In the order in which a transaction inserts. Another one that began before may commit later with lower places.
    place bigint generated always as identity primary key,
    queue text collate "C" not null,
    -- The id of the task.
    task text not null,
    event text not null,
    envelope bytea not null,
    -- When the task is to run, in milliseconds since 1970. Null: as soon as a worker is free.
    due bigint,
    -- When the row was inserted or retried. The number of the row follows from it.
    at bigint not null,
    -- What the relay sends the task under. Null until the relay has taken it, after the commit.
    number bigint,
    -- Why the task cannot be enqueued. Null while it waits.
    failure text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The waiting entries of each queue in the order they are taken: those without a number are last.
create index outbox_waiting on asynqueue.outbox (queue, number, place) where failure is null;

create index outbox_failed on asynqueue.outbox (place) where failure is not null;
