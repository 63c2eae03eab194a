-- Accepts tasks, each with the queue `names[of[n]]`. The first `pending` tasks are pending immediately, by queue and
-- rank: each range of them, at most 100 of one queue and rank, is from `firsts` to `lasts`. The others have their time in
-- `dues`, or wait for `delays`. The other arrays are null if no task needs them.
--
-- Returns the tasks that are refused: 1 for their id, 2 for their unique lock, 3 for their tick, with the state of the
-- task that exists. And what to announce: 0 a time at which something of the task's queue is due before all others, and
-- 4 that its queue has pending tasks, with those that were the first before. `again`: the response to this call was lost.
create or replace function asynqueue.enqueue(
    names text[], of integer[], ids bytea[], envelopes bytea[], ranks smallint[], pending integer,
    firsts integer[], lasts integer[],
    dues bigint[], delays bigint[],
    keys text[], holds smallint[], ttls bigint[],
    guards text[], ticks bigint[], tolerance bigint,
    events text[], groups text[], sizes integer[], max_delays bigint[], graces bigint[],
    fixed bigint,
    lane text, call bigint, again boolean)
returns table (n integer, why smallint, state smallint, holder bytea, at bigint, head text)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    base bigint;
    total integer := cardinality(ids);
    accepted integer;
    queues integer[];
    heads text[];
    first_dues bigint[];
    group_dues bigint[];
    one record;
    refused jsonb;
    vanished integer;
    ords integer[];
    queues_of integer[];
    dues_of bigint[];
    are_members boolean[];
    i integer;
begin
    if again then
        select c.response into refused from asynqueue.call c where c.lane = enqueue.lane and c.number = enqueue.call;
        if found then
            return query select * from asynqueue.conflicts_of(refused);
            return query select * from asynqueue.announced_again(names, of);
            return;
        end if;
    end if;
    perform asynqueue.note_call(lane, call, t, null);
    base := nextval('asynqueue.block') - 1;
    for i in 1..cardinality(names) loop
        queues[i] := asynqueue.queue_of(names[i]);
    end loop;
    for i in 1..cardinality(names) loop
        heads[i] := asynqueue.head_of(queues[i]);
    end loop;
    if pending < total then
        first_dues := array(select asynqueue.first_due(u.q) from unnest(queues) with ordinality u(q, ord) order by u.ord);
        group_dues :=
            array(select asynqueue.first_group_due(u.q) from unnest(queues) with ordinality u(q, ord) order by u.ord);
    end if;
    if keys is null and guards is null and groups is null then
        accepted := 0;
        -- Generated ids are in no other call. A third less work than with `on conflict`, but a subtransaction: a
        -- transaction of a caller may have too many of those.
        if lane is not null and not (select bool_or(octet_length(u.id) <> 16) from unnest(ids) u(id)) then
            begin
                insert into asynqueue.task (turn, queue, rank, id, envelope)
                select base + u.ord, queues[u.q], u.rank, u.id, u.envelope
                from unnest(of, ranks, ids, envelopes) with ordinality u(q, rank, id, envelope, ord);
                accepted := total;
            exception when unique_violation then
                null;
            end;
        end if;
        -- A task with the same id may end between two statements. Ids of callers are in one order, so that calls do not
        -- wait for each other in a circle.
        while accepted < total loop
            select jsonb_agg(jsonb_build_object('n', k.ord, 'why', 1, 'state', asynqueue.state_of(k.turn)))
                filter (where k.turn is not null), count(*) filter (where k.turn is null)
            into refused, vanished
            from (
                select u.ord, (
                    select k.turn from asynqueue.task k where k.queue = queues[u.q] and k.id = u.id
                    order by k.turn desc limit 1) as turn
                from unnest(of, ids) with ordinality u(q, id, ord) offset 0) k
            where k.turn is distinct from base + k.ord;
            exit when vanished = 0;
            -- One that was refused may be accepted now.
            refused := null;
            insert into asynqueue.task (turn, queue, rank, id, envelope)
            select base + u.ord, queues[u.q], u.rank, u.id, u.envelope
            from unnest(of, ranks, ids, envelopes) with ordinality u(q, rank, id, envelope, ord)
            where (
                select k.turn from asynqueue.task k where k.queue = queues[u.q] and k.id = u.id limit 1) is null
            order by u.q, u.id
            on conflict (queue, id) do nothing;
            get diagnostics i = row_count;
            accepted := accepted + i;
        end loop;
    else
        accepted := 0;
        -- By queue and lock, so that calls do not wait for each other in a circle. Ticks of a guard are in their order.
        for i in
            select u.ord from unnest(of, keys) with ordinality u(q, key, ord)
            order by u.q, guards[u.ord] nulls first, case when guards[u.ord] is null then u.key end nulls first, u.ord
        loop
            one := asynqueue.accept_or_undo(
                base + i, queues[of[i]], ids[i], envelopes[i], ranks[i], keys[i], holds[i], ttls[i],
                guards[i], ticks[i], tolerance, t);
            if one.why is not null then
                refused := coalesce(refused, '[]') || jsonb_build_object(
                    'n', i, 'why', one.why, 'state', one.state, 'holder', one.holder);
            else
                accepted := accepted + 1;
                if groups[i] is not null then
                    n := i; why := 0; state := null; holder := null;
                    at := asynqueue.join_group(
                        base + i, queues[of[i]], ids[i], events[i], groups[i], sizes[i], max_delays[i], graces[i], t);
                    if at < coalesce(group_dues[of[i]], 9223372036854775807) then
                        group_dues[of[i]] := at;
                        return next;
                    end if;
                end if;
            end if;
        end loop;
    end if;

    if refused is not null then
        perform asynqueue.note_response(lane, call, refused);
        return query select * from asynqueue.conflicts_of(refused);
    end if;
    if accepted = total and pending = total then
        insert into asynqueue.ready (queue, rank, place, first, last, at)
        select queues[of[r.first]], ranks[r.first], base + r.first, base + r.first, base + r.last, t
        from unnest(firsts, lasts) r(first, last);
        insert into asynqueue.tally (queue, pending)
        select queues[of[r.first]], sum(r.last - r.first + 1) from unnest(firsts, lasts) r(first, last) group by 1;
        for i in 1..cardinality(names) loop
            if not (select q.paused from asynqueue.queue q where q.id = queues[i]) then
                n := array_position(of, i); why := 4; head := heads[i];
                return next;
            end if;
        end loop;
        return;
    end if;

    insert into asynqueue.ready (queue, rank, place, first, last, at)
    select k.queue, k.rank, min(k.turn), min(k.turn), max(k.turn), t
    from asynqueue.task k where k.turn > base and k.turn <= base + pending
    group by k.queue, k.rank, (k.turn - base - 1) / 100;
    insert into asynqueue.ready (queue, rank, place, first, last, at)
    select k.queue, k.rank, k.turn, k.turn, k.turn, t
    from asynqueue.task k, lateral (select (k.turn - base)::integer as ord) o
    where k.turn > base + pending and k.turn <= base + total
        and coalesce(dues[o.ord], t + delays[o.ord], t) <= t and (groups is null or groups[o.ord] is null);
    insert into asynqueue.later (turn, queue, state, rank, at)
    select k.turn, k.queue, 3, k.rank, coalesce(dues[o.ord], t + delays[o.ord])
    from asynqueue.task k, lateral (select (k.turn - base)::integer as ord) o
    where k.turn > base + pending and k.turn <= base + total
        and coalesce(dues[o.ord], t + delays[o.ord], t) > t and (groups is null or groups[o.ord] is null);
    select array_agg(k.ord), array_agg(k.queue), array_agg(k.due), array_agg(k.is_member)
    into ords, queues_of, dues_of, are_members
    from (
        select (k.turn - base)::integer as ord, k.queue,
            (select l.at from asynqueue.later l where l.turn = k.turn) as due,
            (select m.turn from asynqueue.member m where m.turn = k.turn) is not null as is_member
        from asynqueue.task k where k.turn > base and k.turn <= base + total offset 0) k;
    insert into asynqueue.tally (queue, pending, scheduled, aggregating)
    select k.queue, count(*) filter (where k.due is null and not k.is_member), count(k.due),
        count(*) filter (where k.is_member)
    from unnest(queues_of, dues_of, are_members) k(queue, due, is_member) group by k.queue;

    return query
        select d.ord, 0::smallint, null::smallint, null::bytea, d.at, null::text
        from (
            select min(k.ord) as ord, min(k.due) as at from unnest(ords, queues_of, dues_of) k(ord, queue, due)
            where k.due is not null group by k.queue) d
        where d.at < coalesce(first_dues[of[d.ord]], 9223372036854775807);
    return query
        select p.ord, 4::smallint, null::smallint, null::bytea, null::bigint, heads[of[p.ord]]
        from (
            select min(k.ord) as ord, k.queue
            from unnest(ords, queues_of, dues_of, are_members) k(ord, queue, due, is_member)
            where k.due is null and not k.is_member group by k.queue) p
        join asynqueue.queue q on q.id = p.queue and not q.paused;
end $$;

-- The tasks that a call has refused.
create or replace function asynqueue.conflicts_of(response jsonb)
returns table (n integer, why smallint, state smallint, holder bytea, at bigint, head text)
language sql stable as $$
    select r.n, r.why, r.state, r.holder, null::bigint, null::text
    from jsonb_to_recordset(response) r(n integer, why smallint, state smallint, holder bytea)
$$;

-- What to announce of queues if the first response to a call was lost: whatever it may have been.
create or replace function asynqueue.announced_again(names text[], of integer[])
returns table (n integer, why smallint, state smallint, holder bytea, at bigint, head text)
language sql volatile as $$
    select o.n, a.why, null::smallint, null::bytea, a.at, null::text
    from (select u.q, min(u.ord)::integer as n from unnest(of) with ordinality u(q, ord) group by u.q) o
    join asynqueue.queue q on q.name = names[o.q]
    cross join lateral (values
        (0::smallint, least(asynqueue.first_due(q.id), asynqueue.first_group_due(q.id))), (4::smallint, null)) a(why, at)
    where (a.why = 0 and a.at is not null)
        or (a.why = 4 and not q.paused and asynqueue.head_of(q.id) is not null)
$$;

-- Accepts a task that may have a lock or a tick. Returns why it is refused.
create or replace function asynqueue.accept(
    new_turn bigint, of_queue integer, new_id bytea, bytes bytea, new_rank smallint,
    new_key text, new_holds smallint, ttl bigint, new_guard text, new_tick bigint, tolerance bigint, t bigint,
    out why smallint, out state smallint, out holder bytea)
language plpgsql volatile as $$
declare
    existing bigint;
begin
    if new_guard is not null then
        insert into asynqueue.tick as l values (of_queue, new_guard, new_tick)
        on conflict (queue, guard) do update set tick = excluded.tick
        where not (l.tick = excluded.tick
            or (l.tick > excluded.tick and l.tick <= greatest(excluded.tick, t) + tolerance));
        if not found then
            why := 3;
            return;
        end if;
    end if;
    loop
        insert into asynqueue.task (turn, queue, rank, id, envelope, key, holds)
        values (new_turn, of_queue, new_rank, new_id, bytes, new_key, new_holds)
        on conflict (queue, id) do nothing;
        exit when found;
        select asynqueue.state_of(k.turn) into state from asynqueue.task k where k.queue = of_queue and k.id = new_id;
        if found then
            why := 1;
            return;
        end if;
    end loop;
    while new_key is not null loop
        holder := asynqueue.take_lock(of_queue, new_key, new_id, t + ttl, t);
        exit when holder is null;
        -- In one look: the holder may have released its lock in the meantime. One that has ended keeps it for its time.
        select (
            select asynqueue.state_of(k.turn) from asynqueue.task k
            where k.queue = of_queue and k.id = accept.holder and k.turn <> new_turn) into state
        from asynqueue.lock l
        where l.queue = of_queue and l.key = new_key and l.holder = accept.holder and l.until > t;
        if found then
            delete from asynqueue.task where turn = new_turn;
            why := 2;
            return;
        end if;
    end loop;
end $$;

-- Accepts a task. The tick of a task that is refused is not remembered.
create or replace function asynqueue.accept_or_undo(
    new_turn bigint, of_queue integer, new_id bytea, bytes bytea, new_rank smallint,
    new_key text, new_holds smallint, ttl bigint, new_guard text, new_tick bigint, tolerance bigint, t bigint)
returns record
language plpgsql volatile as $$
declare
    refused record;
begin
    if new_guard is null then
        return asynqueue.accept(
            new_turn, of_queue, new_id, bytes, new_rank, new_key, new_holds, ttl, null, null, null, t);
    end if;
    begin
        refused := asynqueue.accept(
            new_turn, of_queue, new_id, bytes, new_rank, new_key, new_holds, ttl,
            new_guard, new_tick, tolerance, t);
        if refused.why is not null then
            raise exception using errcode = 'AQ001';
        end if;
    exception when sqlstate 'AQ001' then
        null;
    end;
    return refused;
end $$;

-- Adds a new task to its group. Returns when the group is due.
create or replace function asynqueue.join_group(
    new_turn bigint, of_queue integer, new_id bytea, of_event text, wanted text,
    new_size integer, new_delay bigint, new_grace bigint, t bigint)
returns bigint
language plpgsql volatile as $$
declare
    number integer := asynqueue.group_of(of_queue, of_event, wanted, '', 0, null, t);
    newest record;
    is_due bigint;
begin
    insert into asynqueue.member (turn, at, max_delay, grace, "group", max_size, id)
    values (new_turn, t, new_delay, new_grace, number, new_size, new_id);
    -- Not this task, if others were added in the same millisecond or before the clock was set back.
    select at, max_size, max_delay, grace into newest from asynqueue.member where "group" = number
    order by at desc, id desc limit 1;
    update asynqueue."group" g set size = g.size + 1, oldest = case g.size when 0 then t else g.oldest end,
        due = case
            when g.size + 1 >= newest.max_size then newest.at
            else least(case g.size when 0 then t else g.oldest end + newest.max_delay, newest.at + newest.grace)
        end
    where id = number returning due into is_due;
    return is_due;
end $$;
