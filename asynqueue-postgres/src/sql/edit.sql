-- Changes of single tasks.

-- The range of pending tasks that a turn is in. A range where it was enqueued has its place within one block.
create or replace function asynqueue.range_of(of_queue integer, of_rank smallint, wanted bigint)
returns setof asynqueue.ready
language plpgsql stable
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    return query (select * from asynqueue.ready r
        where r.queue = of_queue and r.rank = of_rank and r.place <= wanted and r.place > wanted - 1024
            and r.first = r.place and r.last >= wanted
        order by r.place desc limit 1)
    union all
    select * from asynqueue.ready r where r.first = wanted and r.place <> r.first;
end $$;

-- Locks where tasks are, so that they stay there until this transaction ends.
create or replace function asynqueue.hold(names text[], of integer[], ids bytea[]) returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    task record;
begin
    for task in
        select k.turn, k.queue, k.rank from unnest(of, ids) u(q, id) cross join lateral (
            select k.turn, k.queue, k.rank from asynqueue.task k where k.id = u.id
                and k.queue = (select q.id from asynqueue.queue q where q.name = names[u.q]) offset 0) k
        order by k.turn
    loop
        -- It may move between two looks.
        for tries in 1..10 loop
            perform from asynqueue.lease where turn = task.turn for update;
            exit when found;
            perform from asynqueue.later where turn = task.turn for update;
            exit when found;
            perform from asynqueue."group" g where id = (
                select m."group" from asynqueue.member m where m.turn = task.turn) for update;
            exit when found;
            perform from asynqueue.ready r where (r.queue, r.rank, r.place) in (
                select s.queue, s.rank, s.place from asynqueue.range_of(task.queue, task.rank, task.turn) s)
                and r.first <= task.turn and r.last >= task.turn for update;
            exit when found;
            perform from asynqueue.task k where k.turn = task.turn;
            exit when not found;
            if tries = 10 then
                raise exception using errcode = '40001', message = 'a task was moved again and again';
            end if;
        end loop;
    end loop;
end $$;

-- Removes a task that is not active from its list.
create or replace function asynqueue.unlist(wanted bigint, of_queue integer) returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    was smallint;
    of_group integer;
    of_rank smallint;
    range asynqueue.ready;
begin
    delete from asynqueue.later where turn = wanted returning state into was;
    if found then
        insert into asynqueue.tally (queue, scheduled, retry, completed, archived)
        values (of_queue, -(was = 3)::integer, -(was = 4)::integer, -(was = 5)::integer, -(was = 6)::integer);
        return;
    end if;
    delete from asynqueue.member where turn = wanted returning "group" into of_group;
    if found then
        perform asynqueue.refresh_group(of_group);
        insert into asynqueue.tally (queue, aggregating) values (of_queue, -1);
        return;
    end if;
    select rank into of_rank from asynqueue.task where turn = wanted;
    select * into range from asynqueue.range_of(of_queue, of_rank, wanted);
    if not found then
        return;
    end if;
    -- The range without this turn.
    if range.first < wanted then
        update asynqueue.ready set last = wanted - 1
        where queue = range.queue and rank = range.rank and place = range.place;
    else
        delete from asynqueue.ready where queue = range.queue and rank = range.rank and place = range.place;
    end if;
    if range.last > wanted then
        insert into asynqueue.ready (queue, rank, place, first, last, at)
        values (range.queue, range.rank, wanted + 1, wanted + 1, range.last, range.at);
    end if;
    insert into asynqueue.tally (queue, pending) values (of_queue, -1);
end $$;

-- Ends a task for its waiters, and releases its lock. Returns whether a caller waits for it.
create or replace function asynqueue.end_of(wanted bigint) returns boolean
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    task record;
begin
    -- A caller that starts to wait locks the row: its own row is seen below.
    select queue, id, key, holds into task from asynqueue.task where turn = wanted for update;
    -- One that is locked has ended, and is being taken by another task.
    delete from asynqueue.lock where (queue, key) in (
        select l.queue, l.key from asynqueue.lock l
        where task.holds <> 3 and l.queue = task.queue and l.key = task.key and l.holder = task.id
        for update skip locked);
    delete from asynqueue.waiter where queue = task.queue and id = task.id;
    -- The snapshot of a stricter transaction may be older than the caller's row.
    return found or current_setting('transaction_isolation') <> 'read committed';
end $$;

-- Deletes a task that is in no list. Returns whether a caller waits for its end.
create or replace function asynqueue.forget(wanted bigint) returns boolean
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    awaited boolean := asynqueue.end_of(wanted);
begin
    delete from asynqueue.task where turn = wanted;
    delete from asynqueue.change where turn = wanted;
    return awaited;
end $$;

-- Puts a task that is in no list where it is to be: pending behind the others (2), scheduled (3), to be retried (4),
-- completed (5), or archived (6). A scheduled task whose time has passed is pending if `is_moved`. Returns whether it is
-- pending in a queue that may be leased from, and what was pending there first; and when it is due, if that is before all
-- others.
create or replace function asynqueue.put(
    wanted bigint, of_queue integer, new_state smallint, new_at bigint, is_moved boolean, fixed bigint)
returns table (is_open boolean, head text, due bigint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    is_pending boolean := new_state = 2 or (new_state = 3 and is_moved and new_at <= t);
    of_rank smallint;
begin
    select rank into of_rank from asynqueue.task where turn = wanted;
    is_open := false;
    if is_pending then
        head := asynqueue.head_of(of_queue);
        select not paused into is_open from asynqueue.queue where id = of_queue;
        insert into asynqueue.ready (queue, rank, place, first, last, at)
        values (of_queue, of_rank, nextval('asynqueue.block'), wanted, wanted,
            case when is_moved then t else coalesce(new_at, t) end);
        insert into asynqueue.tally (queue, pending) values (of_queue, 1);
    else
        if new_state in (3, 4) and new_at < coalesce(asynqueue.first_due(of_queue), 9223372036854775807) then
            due := new_at;
        end if;
        insert into asynqueue.later (turn, queue, state, rank, at)
        values (wanted, of_queue, new_state, of_rank, coalesce(new_at, t));
        insert into asynqueue.tally (queue, scheduled, retry, completed, archived)
        values (of_queue, (new_state = 3)::integer, (new_state = 4)::integer, (new_state = 5)::integer,
            (new_state = 6)::integer);
    end if;
    return next;
end $$;

-- Replaces the envelope of a task, and forgets what workers have changed in the former one. From now on the task
-- releases the unique lock that the new envelope names. A lock that only the former one named is held for its time.
create or replace function asynqueue.replace(wanted bigint, bytes bytea, new_key text, new_holds smallint) returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
begin
    update asynqueue.task set envelope = bytes, key = new_key, holds = new_holds where turn = wanted;
    delete from asynqueue.change where turn = wanted;
end $$;

-- Adds the row of a task that is in no list yet. Returns its turn and the number of its queue, unless its id is taken.
create or replace function asynqueue.add(
    name text, new_id bytea, bytes bytea, new_rank smallint, new_key text, new_holds smallint)
returns table (turn bigint, queue integer)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    number integer := asynqueue.queue_of(name);
begin
    return query
        insert into asynqueue.task as k (turn, queue, rank, id, envelope, key, holds)
        values (nextval('asynqueue.block'), number, new_rank, new_id, bytes, new_key, new_holds)
        on conflict do nothing returning k.turn, k.queue;
end $$;

-- Requests the cancellation of an active task. The first reason is kept.
create or replace function asynqueue.request_cancel(wanted bigint, reason text) returns void
language sql volatile as $$
    insert into asynqueue.running as r (turn, cancel) values (wanted, reason)
    on conflict (turn) do update set cancel = coalesce(r.cancel, excluded.cancel)
$$;

-- Completes a task in a transaction of its handler. Returns 0 if its lease is not current, 1 if it is, and 2 if it was
-- completed before. A task that is kept has a time in `waits`.
create or replace function asynqueue.complete(
    name text, of_id bytea, of_token bigint, waits bigint, new_changes bytea, new_envelope bytea, new_result bytea,
    fixed bigint)
returns table (outcome smallint, awaited boolean)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    wanted bigint;
    number integer;
begin
    select k.turn, k.queue into wanted, number
    from asynqueue.task k
    where k.queue = (select q.id from asynqueue.queue q where q.name = complete.name) and k.id = of_id;
    delete from asynqueue.lease where turn = wanted and token = of_token;
    if not found then
        outcome := case when exists (select from asynqueue.settled where token = of_token) then 2 else 0 end;
        awaited := false;
        return next;
        return;
    end if;
    delete from asynqueue.running where turn = wanted;
    awaited := asynqueue.end_of(wanted);
    if waits is null then
        delete from asynqueue.task where turn = wanted;
        delete from asynqueue.change where turn = wanted;
        if awaited then
            insert into asynqueue."end" as o (queue, id, at, result) values (number, of_id, t, new_result)
            on conflict (queue, id) do update set at = excluded.at, result = excluded.result;
        end if;
        insert into asynqueue.tally (queue, active, succeeded, hour) values (number, -1, 1, t / 3600000);
    else
        if new_envelope is not null then
            update asynqueue.task set envelope = new_envelope where turn = wanted;
        end if;
        insert into asynqueue.change as c (turn, changes, result) values (wanted, new_changes, new_result)
        on conflict (turn) do update
        set changes = case when new_envelope is null then coalesce(excluded.changes, c.changes) end,
            result = excluded.result;
        insert into asynqueue.later (turn, queue, state, rank, at)
        select turn, queue, 5, rank, t + waits from asynqueue.task where turn = wanted;
        insert into asynqueue.tally (queue, active, completed, succeeded, hour) values (number, -1, 1, 1, t / 3600000);
    end if;
    insert into asynqueue.settled values (of_token, t);
    outcome := 1;
    return next;
end $$;

-- Puts a task that is in no list into a group or a part. Returns when that is due, if it is before all others.
create or replace function asynqueue.put_into_group(
    wanted bigint, of_queue integer, of_id bytea, of_event text, of_name text, first_member bytea, of_tries integer,
    wait bigint, since bigint, size integer, max_delay bigint, grace bigint)
returns bigint
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    before bigint := asynqueue.first_group_due(of_queue);
    number integer := asynqueue.group_of(of_queue, of_event, of_name, first_member, of_tries, wait, since);
    is_due bigint;
begin
    insert into asynqueue.member (turn, at, max_delay, grace, "group", max_size, id)
    values (wanted, since, max_delay, grace, number, size, of_id);
    insert into asynqueue.tally (queue, aggregating) values (of_queue, 1);
    is_due := asynqueue.refresh_group(number);
    return case when is_due < coalesce(before, 9223372036854775807) then is_due end;
end $$;
