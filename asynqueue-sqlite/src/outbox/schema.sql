-- An outbox: tasks that wait in the application's own database until a relay has moved them to a broker.

-- One row.
create table if not exists asynqueue_outbox_meta (
    one integer primary key check (one = 1),
    -- The version of these tables.
    version integer not null,
    -- Names this outbox in the queues that remember its last numbers. A copy of the database that has its own relay
    -- needs another one.
    id text not null,
    -- The last number that an entry got.
    last integer not null,
    -- The relay that has the turn, and the end of its turn in milliseconds since 1970.
    relay text,
    until integer not null
) strict;

-- A row for each task, inserted by a transaction of the application. The relay deletes it once the broker has accepted
-- or refused the task.
create table if not exists asynqueue_outbox (
    -- In the order of the commits, because SQLite has one writer.
    place integer primary key autoincrement,
    queue text not null,
    -- The id of the task.
    task text not null,
    event text not null,
    envelope blob not null,
    -- When the task is to run, in milliseconds since 1970. Null: as soon as a worker is free.
    due integer,
    -- When the row was inserted or retried. The number of the row follows from it.
    at integer not null,
    -- What the relay sends the task under. The largest integer until the relay has taken it.
    number integer not null default 9223372036854775807,
    -- Why the task cannot be enqueued. Null while it waits.
    failure text
) strict;

-- The waiting entries of each queue in the order they are taken.
create index if not exists asynqueue_outbox_waiting on asynqueue_outbox (queue, number, place) where failure is null;

create index if not exists asynqueue_outbox_failed on asynqueue_outbox (place) where failure is not null;
