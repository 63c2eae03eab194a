-- Upkeep: tasks that become due, tasks that are no longer kept, counts, and the rows of deleted queues.

-- Makes due tasks pending. Returns how many of each queue, and when its next one is due.
create or replace function asynqueue.forward(names text[], at_most integer, fixed bigint)
returns table (n integer, moved integer, next_due bigint, is_open boolean, head text)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    number integer;
    place bigint;
    retried integer;
begin
    for i in 1..cardinality(names) loop
        n := i; moved := 0; next_due := null; is_open := false; head := null;
        select q.id, not q.paused into number, is_open from asynqueue.queue q where q.name = names[i];
        if number is not null then
            next_due := asynqueue.first_due(number);
            if next_due <= t then
                head := asynqueue.head_of(number);
                place := nextval('asynqueue.block');
                with found as (
                    (select a.turn, a.at, 0 as retry from asynqueue.later a
                        where a.queue = number and a.state = 3 and a.at <= t order by a.at, a.turn limit at_most)
                    union all
                    (select b.turn, b.at, 1 from asynqueue.later b
                        where b.queue = number and b.state = 4 and b.at <= t order by b.at, b.turn limit at_most)),
                numbered as (
                    select f.turn, row_number() over (order by f.at, f.retry, f.turn) as ord from found f
                    order by f.at, f.retry, f.turn limit at_most),
                locked as materialized (
                    select l.*, d.ord from numbered d cross join lateral (
                        select l.turn, l.rank, l.state from asynqueue.later l
                        where l.turn = d.turn and l.state in (3, 4) and l.at <= t offset 0 for update skip locked) l),
                gone as (delete from asynqueue.later l where l.turn = any(array(select d.turn from locked d))),
                listed as (
                    insert into asynqueue.ready (queue, rank, place, first, last, at)
                    select number, d.rank, place + d.ord, d.turn, d.turn, t from locked d)
                select count(*), count(*) filter (where d.state = 4) into moved, retried from locked d;
                if moved > 0 then
                    insert into asynqueue.tally (queue, pending, scheduled, retry)
                    values (number, moved, retried - moved, -retried);
                end if;
                next_due := asynqueue.first_due(number);
            end if;
        end if;
        return next;
    end loop;
end $$;

-- Deletes the oldest tasks of a queue in a state, up to a time. Their waiters and locks have ended before.
create or replace function asynqueue.delete_oldest(number integer, of_state smallint, until bigint, at_most integer)
returns integer
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    turns bigint[];
begin
    if at_most <= 0 then
        return 0;
    end if;
    with old as (
        select l.turn from asynqueue.later l
        where l.queue = number and l.state = of_state and l.at <= until order by l.at, l.turn limit at_most
        for update skip locked),
    gone as (delete from asynqueue.later l where l.turn = any(array(select o.turn from old o)) returning l.turn)
    select coalesce(array_agg(g.turn), '{}') into turns from gone g;
    delete from asynqueue.task k where k.turn = any(turns);
    delete from asynqueue.change c where c.turn = any(turns);
    return cardinality(turns);
end $$;

-- Adds up to 100,000 rows of `tally` to the counts of their queues, unless another process does so.
create or replace function asynqueue.add_up() returns void
language plpgsql volatile
set jit = off as $$
declare
    one record;
begin
    if not pg_try_advisory_xact_lock(1634956655, asynqueue.lock_of(0)) then
        return;
    end if;
    for one in
        with gone as (
            delete from asynqueue.tally where ctid = any(array(
                select ctid from asynqueue.tally limit 100000 for update skip locked)) returning *),
        hours as (
            insert into asynqueue.hour as h (queue, hour, succeeded, failed, lost)
            select g.queue, g.hour, sum(g.succeeded), sum(g.failed), sum(g.lost) from gone g
            where g.succeeded > 0 or g.failed > 0 or g.lost > 0 group by g.queue, g.hour order by 1, 2
            on conflict (queue, hour) do update set succeeded = h.succeeded + excluded.succeeded,
            failed = h.failed + excluded.failed, lost = h.lost + excluded.lost)
        select g.queue, sum(pending) as pending, sum(scheduled) as scheduled, sum(active) as active,
            sum(retry) as retry, sum(completed) as completed, sum(archived) as archived,
            sum(aggregating) as aggregating, sum(succeeded) as succeeded, sum(failed) as failed, sum(lost) as lost
        from gone g group by g.queue order by g.queue
    loop
        update asynqueue.queue q set is_used = true, pending = q.pending + one.pending,
            scheduled = q.scheduled + one.scheduled, active = q.active + one.active, retry = q.retry + one.retry,
            completed = q.completed + one.completed, archived = q.archived + one.archived,
            aggregating = q.aggregating + one.aggregating, succeeded = q.succeeded + one.succeeded,
            failed = q.failed + one.failed, lost = q.lost + one.lost
        where q.id = one.queue;
    end loop;
end $$;

-- Deletes at most `at_most` tasks of each queue that are no longer kept, and what has no effect any more.
create or replace function asynqueue.trim(
    names text[], archived_for bigint, archived_max bigint, at_most integer, oldest_hour integer, fixed bigint)
returns table (n integer, completed integer, by_count integer, by_age integer, archived bigint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    number integer;
    is_alone boolean;
begin
    perform set_config('synchronous_commit', 'off', true);
    perform asynqueue.add_up();
    perform asynqueue.forget_calls(t);
    for i in 1..cardinality(names) loop
        n := i; completed := 0; by_count := 0; by_age := 0; archived := 0;
        select q.id into number from asynqueue.queue q where q.name = names[i];
        if number is not null then
            -- Of two calls that count the same tasks, the other would delete as many of the next ones.
            is_alone := pg_try_advisory_xact_lock(1634956658, asynqueue.lock_of(number));
            select q.archived + coalesce(
                (select sum(y.archived) from asynqueue.tally y where y.queue = number), 0) into archived
            from asynqueue.queue q where q.id = number;
            if is_alone then
                by_count := asynqueue.delete_oldest(
                    number, 6::smallint, 9223372036854775807,
                    least(greatest(archived - archived_max, 0), at_most)::integer);
            end if;
            completed := asynqueue.delete_oldest(number, 5::smallint, t, at_most - by_count);
            if is_alone then
                by_age := asynqueue.delete_oldest(
                    number, 6::smallint, t - archived_for, at_most - by_count - completed);
            end if;
            if archived > 0 and is_alone then
                update asynqueue.queue q set archive_max = archived_max
                where q.id = number and q.archive_max is distinct from archived_max;
            end if;
            if completed + by_count + by_age > 0 then
                insert into asynqueue.tally (queue, completed, archived)
                values (number, -completed, -by_count - by_age);
            end if;
            if by_count + by_age > 0 then
                update asynqueue.queue q set trimmed_by_count = q.trimmed_by_count + trim.by_count,
                    trimmed_by_age = q.trimmed_by_age + trim.by_age, last_trimmed = t
                where q.id = number;
                archived := archived - by_count - by_age;
            end if;
            delete from asynqueue.hour h where h.queue = number and h.hour < oldest_hour;
            -- One that is locked is being taken, in a transaction of a caller that may stay open.
            delete from asynqueue.lock l where l.queue = number and l.key = any(array(
                select o.key from asynqueue.lock o where o.queue = number and o.until <= t for update skip locked));
        end if;
        return next;
    end loop;
    -- Reported while the task was completed in a transaction with an older snapshot.
    delete from asynqueue.running r where (select l.turn from asynqueue.lease l where l.turn = r.turn) is null;
    delete from asynqueue."end" o where o.at < t - 60000;
    delete from asynqueue.waiter w where w.at < t - 3600000;
    delete from asynqueue.settled s where s.at < t - 86400000;
    perform asynqueue.sweep();
end $$;

-- Removes rows of deleted queues, a few thousand at a time.
create or replace function asynqueue.sweep() returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    number integer;
    turns bigint[];
begin
    select id into number from asynqueue.queue where name is null order by id limit 1 for update skip locked;
    if number is null then
        return;
    end if;
    turns := array(select turn from asynqueue.task where queue = number limit 5000);
    delete from asynqueue.lease where turn = any(turns);
    delete from asynqueue.later where turn = any(turns);
    delete from asynqueue.member where turn = any(turns);
    delete from asynqueue.running where turn = any(turns);
    delete from asynqueue.change where turn = any(turns);
    delete from asynqueue.task where turn = any(turns);
    if cardinality(turns) = 5000 then
        return;
    end if;
    delete from asynqueue.ready where queue = number;
    delete from asynqueue.lock where queue = number;
    delete from asynqueue.tick where queue = number;
    delete from asynqueue.hour where queue = number;
    delete from asynqueue.absorbed where queue = number;
    delete from asynqueue.waiter where queue = number;
    delete from asynqueue."end" where queue = number;
    delete from asynqueue."group" where queue = number;
    delete from asynqueue.tally where queue = number;
    delete from asynqueue.queue where id = number;
end $$;

-- Deletes a queue unless it has tasks. Returns whether it is gone. Its rows are removed later.
create or replace function asynqueue.delete_queue(wanted text, force boolean) returns boolean
language plpgsql volatile as $$
declare
    number integer;
    tasks bigint;
begin
    select id into number from asynqueue.queue where name = wanted;
    if number is null then
        return true;
    end if;
    -- Waits for transactions that add tasks, but not for long: others that add tasks wait behind this one.
    perform set_config('lock_timeout', '2s', true);
    begin
        perform pg_advisory_xact_lock(1634956654, asynqueue.lock_of(number));
    exception when lock_not_available then
        raise exception using errcode = 'object_in_use',
            message = format(
                'queue "%s" is used by a transaction that is still open: end it, or try again later', wanted);
    end;
    if not force and exists (select from asynqueue.task where queue = number) then
        return false;
    end if;
    update asynqueue.queue set name = null where id = number;
    return true;
end $$;

-- Adds statistics of another store to a queue, unless those with this id were added before. Returns whether they were
-- not.
create or replace function asynqueue.absorb(
    name text, new_id text, new_succeeded bigint, new_failed bigint, new_lost bigint, new_max bigint, by_count bigint,
    by_age bigint, trimmed bigint, hours integer[], succeeded_in bigint[], failed_in bigint[], lost_in bigint[])
returns boolean
language plpgsql volatile as $$
declare
    number integer := asynqueue.queue_of(name);
begin
    insert into asynqueue.absorbed values (number, new_id) on conflict do nothing;
    if not found then
        return false;
    end if;
    insert into asynqueue.hour as h (queue, hour, succeeded, failed, lost)
    select number, u.hour, u.succeeded, u.failed, u.lost
    from unnest(hours, succeeded_in, failed_in, lost_in) u(hour, succeeded, failed, lost)
    on conflict (queue, hour) do update set succeeded = h.succeeded + excluded.succeeded,
    failed = h.failed + excluded.failed, lost = h.lost + excluded.lost;
    update asynqueue.queue q set is_used = true, succeeded = q.succeeded + new_succeeded,
        failed = q.failed + new_failed, lost = q.lost + new_lost, archive_max = coalesce(q.archive_max, new_max),
        trimmed_by_count = q.trimmed_by_count + by_count, trimmed_by_age = q.trimmed_by_age + by_age,
        last_trimmed = greatest(q.last_trimmed, trimmed)
    where q.id = number;
    return true;
end $$;

-- Whether the transaction that was the last to lock or to delete a row, by its `xmax`, is running. Numbers of
-- transactions are compared in their circle of 32 bits.
create or replace function asynqueue.is_held(last_holder xid) returns boolean
language plpgsql stable as $$
declare
    number bigint := last_holder::text::bigint;
    seen pg_snapshot := pg_current_snapshot();
begin
    return number <> 0 and (
        (number - pg_snapshot_xmax(seen)::text::bigint) & 4294967295 < 2147483648
        or exists (
            select from pg_snapshot_xip(seen) running where running::text::bigint & 4294967295 = number));
end $$;

-- Which of these queues have pending tasks, but no more the first ones that they had: then a worker may have found
-- nothing and gone to sleep before later tasks were committed. `is_taken`: a worker is taking them now, so look again.
create or replace function asynqueue.moved_on(names text[], heads text[])
returns table (name text, is_taken boolean)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    -- Without a lock, which would wait for the disk, and which leases would pass over.
    return query
        with head as (
            select q.id, q.name, split_part(u.head, ':', 1)::smallint as rank,
                split_part(u.head, ':', 2)::bigint as place
            from unnest(names, heads) u(name, head) join asynqueue.queue q on q.name = u.name)
        select h.name, r.place is not null
        from head h left join asynqueue.ready r on r.queue = h.id and r.rank = h.rank and r.place = h.place
        where exists (select from asynqueue.ready o where o.queue = h.id)
            and (r.place is null or asynqueue.is_held(r.xmax));
end $$;

-- Pauses or resumes queues. Returns the resumed ones that have pending tasks.
create or replace function asynqueue.set_paused(names text[], is_paused boolean) returns setof text
language plpgsql volatile as $$
declare
    one text;
    number integer;
begin
    foreach one in array names loop
        number := asynqueue.queue_of(one);
        update asynqueue.queue set paused = is_paused where id = number and paused <> is_paused;
        if found and not is_paused and exists (select from asynqueue.ready where queue = number) then
            return next one;
        end if;
    end loop;
end $$;
