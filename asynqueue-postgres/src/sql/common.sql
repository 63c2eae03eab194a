-- What the other functions use. Those in SQL are simple expressions, which are planned with their callers; the plans of
-- the others are kept by each connection.
--
-- A plan may be made while a table is empty, and used when it is large. So a statement that needs rows of a large table
-- looks them up by an array, by a subquery in its list, or by a lateral one with `offset 0`, which cannot become the
-- outer side of a join.

-- The time in milliseconds. Tests fix it.
create or replace function asynqueue.now_at(fixed bigint) returns bigint
language sql volatile as $$
    select coalesce(fixed, (extract(epoch from clock_timestamp()) * 1000)::bigint)
$$;

-- The first pending tasks of a queue, as rank and place. Null if there are none.
create or replace function asynqueue.head_of(number integer) returns text
language plpgsql stable as $$
begin
    return (
        select r.rank || ':' || r.place from asynqueue.ready r where r.queue = number
        order by r.rank, r.place limit 1);
end $$;

-- When the first scheduled task or retry of a queue is due.
create or replace function asynqueue.first_due(number integer) returns bigint
language plpgsql stable as $$
begin
    return least(
        (select a.at from asynqueue.later a where a.queue = number and a.state = 3 order by a.at limit 1),
        (select b.at from asynqueue.later b where b.queue = number and b.state = 4 order by b.at limit 1));
end $$;

-- When the first group of a queue is due.
create or replace function asynqueue.first_group_due(number integer) returns bigint
language plpgsql stable as $$
begin
    return (select g.due from asynqueue."group" g where g.queue = number order by g.due limit 1);
end $$;

-- The advisory lock of a queue. All schemas of a database share these locks, and have queues with the same numbers.
create or replace function asynqueue.lock_of(number integer) returns integer
language sql immutable as $$
    select hashtext('asynqueue.') # number
$$;

-- The number of a queue, which is created if it does not exist. The queue is not deleted before this transaction ends.
create or replace function asynqueue.queue_of(wanted text) returns integer
language plpgsql volatile as $$
declare
    number integer;
begin
    loop
        select id into number from asynqueue.queue where name = wanted;
        if number is null then
            insert into asynqueue.queue (name) values (wanted) on conflict do nothing returning id into number;
        end if;
        if number is not null then
            perform pg_advisory_xact_lock_shared(1634956654, asynqueue.lock_of(number));
            if current_setting('transaction_isolation') = 'read committed' then
                perform from asynqueue.queue where id = number and name = wanted;
            else
                -- The snapshot is older than the lock. Fails if the queue was deleted since.
                perform from asynqueue.queue where id = number and name = wanted for key share;
            end if;
            if found then
                return number;
            end if;
        end if;
    end loop;
end $$;

-- Creates queues that do not exist, before a transaction of a caller uses them: others that need a queue which that
-- transaction has created would wait for its end. They are not listed until they have had a task.
create or replace function asynqueue.create_queues(names text[]) returns void
language plpgsql volatile as $$
begin
    -- Fails if an open transaction has created one of them.
    perform set_config('lock_timeout', '200ms', true);
    insert into asynqueue.queue (name) select u.name from unnest(names) u(name)
    where not exists (select from asynqueue.queue q where q.name = u.name) order by u.name on conflict do nothing;
end $$;

-- The state of a task that exists.
create or replace function asynqueue.state_of(wanted bigint) returns smallint
language plpgsql stable as $$
begin
    return coalesce(
        (select 1 from asynqueue.lease where turn = wanted),
        (select state from asynqueue.later where turn = wanted),
        (select 7 from asynqueue.member where turn = wanted),
        2)::smallint;
end $$;

-- Takes a unique lock that is free or has ended. Returns the holder of a lock that is held. Its row is not locked then,
-- because this transaction may stay open, and the holder releases the lock when it ends.
create or replace function asynqueue.take_lock(of_queue integer, wanted text, new_holder bytea, ends bigint, t bigint)
returns bytea
language plpgsql volatile as $$
declare
    held_by bytea;
begin
    loop
        select holder into held_by from asynqueue.lock where queue = of_queue and key = wanted and until > t;
        if found then
            return held_by;
        end if;
        insert into asynqueue.lock values (of_queue, wanted, ends, new_holder) on conflict do nothing;
        if found then
            return null;
        end if;
        update asynqueue.lock set until = ends, holder = new_holder
        where queue = of_queue and key = wanted and until <= t;
        if found then
            return null;
        end if;
    end loop;
end $$;

-- Releases the lock of a task that ends or starts. One that is locked has ended, and is being taken by another task.
create or replace function asynqueue.release_lock(of_queue integer, of_key text, of_holder bytea) returns void
language plpgsql volatile as $$
begin
    perform from asynqueue.lock where queue = of_queue and key = of_key and holder = of_holder for update skip locked;
    if found then
        delete from asynqueue.lock where queue = of_queue and key = of_key and holder = of_holder;
    end if;
end $$;

-- Computes a group again after members have joined or left. Returns when it is due. A group without members is deleted.
create or replace function asynqueue.refresh_group(wanted integer) returns bigint
language plpgsql volatile as $$
declare
    members record;
    newest record;
    is_due bigint;
begin
    select count(*)::integer as size, min(at) as oldest into members from asynqueue.member where "group" = wanted;
    if members.size = 0 then
        delete from asynqueue."group" where id = wanted;
        return null;
    end if;
    select at, max_size, max_delay, grace into newest from asynqueue.member where "group" = wanted
    order by at desc, id desc limit 1;
    update asynqueue."group" set size = members.size, oldest = members.oldest,
        due = case
            when delay is not null then members.oldest + delay
            when members.size >= newest.max_size then newest.at
            else least(members.oldest + newest.max_delay, newest.at + newest.grace)
        end
    where id = wanted returning due into is_due;
    return is_due;
end $$;

-- The number of a group or a part, which is created if it does not exist. It is locked until this transaction ends.
create or replace function asynqueue.group_of(
    of_queue integer, of_event text, wanted text, first_member bytea, of_tries integer, wait bigint, t bigint)
returns integer
language plpgsql volatile as $$
declare
    number integer;
begin
    loop
        select id into number from asynqueue."group"
        where queue = of_queue and event = of_event and name = wanted and first = first_member and tries = of_tries
        for update;
        if found then
            return number;
        end if;
        insert into asynqueue."group" (queue, event, name, first, tries, size, oldest, due, delay)
        values (of_queue, of_event, wanted, first_member, of_tries, 0, t, t, wait) on conflict do nothing;
    end loop;
end $$;
