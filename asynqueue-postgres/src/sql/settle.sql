-- Records the outcomes of leases. `kinds`: 1 completed and deleted, 2 completed and kept for `waits`, 3 retried after
-- `waits`, 4 waits for `waits`, 5 pending behind the others, 6 pending before the others, 7 archived, 8 deleted.
-- `failed`: the attempt counts as a failure. A task with a key in `keys` takes this lock again, for `ttls`. A task that
-- is kept may have `changes`, or a new envelope.
--
-- Returns what is unusual of an outcome: 0 the lease is not current, 2 a cancellation was requested, with its reason, and
-- nothing was changed unless `is_cancelled`, 3 it was completed in a transaction of the handler. 1: it was recorded, and
-- a caller waits for the end; or the task is due before all others of its queue; or its queue may be leased from, and
-- this was pending there first. An outcome that is not returned was recorded. `again`: the response to this call was
-- lost.
create or replace function asynqueue.settle(
    names text[], of integer[], ids bytea[], tokens bigint[], if_expired boolean[], is_cancelled boolean[],
    kinds smallint[], waits bigint[], changes bytea[], results bytea[], envelopes bytea[],
    failed boolean[], keys text[], ttls bigint[], fixed bigint,
    lane text, call bigint, again boolean)
returns table (n integer, outcome smallint, reason text, awaited boolean, due bigint, is_open boolean, head text)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    hours integer := (t / 3600000)::integer;
    queues integer[];
    ords integer[];
    turns bigint[];
    reclaimed bigint[];
    blocked integer[] := '{}';
    reasons text[] := '{}';
    known integer[] := '{}';
    refused jsonb;
    is_late boolean;
    waited integer[] := '{}';
    heads text[];
    dues bigint[];
    has_changes boolean := exists (select from asynqueue.change);
begin
    if again then
        select c.response into refused from asynqueue.call c where c.lane = settle.lane and c.number = settle.call;
        if found then
            return query select * from asynqueue.refused_of(refused);
            return;
        end if;
    end if;
    perform asynqueue.note_call(lane, call, t, null);
    select array_agg(q.id order by u.ord) into queues
    from unnest(names) with ordinality u(name, ord) left join asynqueue.queue q on q.name = u.name;

    if exists (select from asynqueue.settled) then
        with gone as (
            delete from asynqueue.settled s using unnest(tokens, if_expired) with ordinality u(token, expired, ord)
            where s.token = u.token and not u.expired returning u.ord)
        select coalesce(array_agg(g.ord), '{}') into known from gone g;
    end if;
    if exists (select from asynqueue.running where cancel is not null) then
        select coalesce(array_agg(u.ord), '{}'), coalesce(array_agg(r.cancel), '{}') into blocked, reasons
        from unnest(of, ids, tokens, kinds, is_cancelled) with ordinality u(q, id, token, kind, cancelled, ord)
        join asynqueue.task k on k.queue = queues[u.q] and k.id = u.id
        join asynqueue.lease l on l.turn = k.turn and l.token = u.token
        join asynqueue.running r on r.turn = k.turn and r.cancel is not null
        where u.kind between 3 and 7 and not u.cancelled;
    end if;

    if true = any(if_expired) then
        -- A lease that is locked is being extended, or completed in a transaction of its handler that may stay open.
        reclaimed := array(
            select l.turn from unnest(of, ids, tokens, if_expired) u(q, id, token, expired)
            join asynqueue.task k on k.queue = queues[u.q] and k.id = u.id
            join asynqueue.lease l on l.turn = k.turn and l.token = u.token
            where u.expired and l.until <= t order by l.turn for update of l skip locked);
    end if;
    with ended as (
        delete from asynqueue.lease l
        using unnest(of, ids, tokens, if_expired) with ordinality u(q, id, token, expired, ord), asynqueue.task k
        where k.queue = queues[u.q] and k.id = u.id and l.turn = k.turn and l.token = u.token
            and (not u.expired or l.turn = any(reclaimed)) and not u.ord = any(blocked)
        returning u.ord, l.turn)
    select array_agg(e.ord), array_agg(e.turn) into ords, turns from ended e;
    if coalesce(cardinality(ords), 0) < cardinality(ids) then
        select jsonb_agg(jsonb_build_object(
            'n', o,
            'outcome', case when o = any(known) then 3 when o = any(blocked) then 2 else 0 end,
            'reason', reasons[array_position(blocked, o)]))
        into refused from generate_series(1, cardinality(ids)) o where not o = any(coalesce(ords, '{}'));
        perform asynqueue.note_response(lane, call, refused);
        return query select * from asynqueue.refused_of(refused);
    end if;
    if ords is null then
        return;
    end if;

    if exists (select from asynqueue.running) then
        with gone as (
            delete from asynqueue.running r using unnest(ords, turns) e(ord, turn)
            where r.turn = e.turn returning e.ord, r.cancel)
        select bool_or(g.cancel is not null and kinds[g.ord] between 3 and 7 and not is_cancelled[g.ord])
        into is_late from gone g;
        if is_late then
            -- Requested while this call waited for the lease: made again, it sees the request.
            raise exception using errcode = '40001', message = 'a cancellation was requested meanwhile';
        end if;
    end if;
    -- Completed or dropped. A caller that starts to wait locks the row, so its own row is seen below, or it finds no task.
    if 1 = any(kinds) or 8 = any(kinds) then
        with gone as (
            delete from asynqueue.task k using unnest(ords, turns) e(ord, turn)
            where k.turn = e.turn and kinds[e.ord] in (1, 8)
            returning k.turn, k.queue, k.id, k.key, k.holds),
        -- One that is locked has ended, and is being taken by another task.
        released as (
            select l.queue, l.key from asynqueue.lock l join gone g on l.queue = g.queue and l.key = g.key
            where g.holds <> 3 and l.holder = g.id order by l.queue, l.key for update of l skip locked)
        delete from asynqueue.lock l using released g where l.queue = g.queue and l.key = g.key;
        if has_changes then
            delete from asynqueue.change c using unnest(ords, turns) e(ord, turn)
            where c.turn = e.turn and kinds[e.ord] in (1, 8);
        end if;
    end if;
    if 2 = any(kinds) or 7 = any(kinds) then
        perform from asynqueue.task k where k.turn in (
            select e.turn from unnest(ords, turns) e(ord, turn) where kinds[e.ord] in (2, 7)) for update;
    end if;
    if exists (select from asynqueue.waiter) then
        with heard as (
            delete from asynqueue.waiter w using unnest(ords) e(ord)
            where w.queue = queues[of[e.ord]] and w.id = ids[e.ord] and kinds[e.ord] in (1, 2, 7, 8)
            returning e.ord)
        select coalesce(array_agg(h.ord), '{}') into waited from heard h;
        insert into asynqueue."end" as o (queue, id, at, result)
        select queues[of[e.ord]], ids[e.ord], t, results[e.ord] from unnest(waited) e(ord) where kinds[e.ord] = 1
        on conflict (queue, id) do update set at = excluded.at, result = excluded.result;
    end if;

    if exists (select from unnest(ords) e(ord) where kinds[e.ord] between 3 and 6) then
        heads := array(select asynqueue.head_of(u.q) from unnest(queues) with ordinality u(q, ord) order by u.ord);
        dues := array(select asynqueue.first_due(u.q) from unnest(queues) with ordinality u(q, ord) order by u.ord);
    end if;
    if exists (select from unnest(ords) e(ord) where kinds[e.ord] between 2 and 7) then
        perform asynqueue.keep(ords, turns, of, queues, ids, kinds, waits, changes, results, envelopes, names, keys, ttls, t);
    end if;

    insert into asynqueue.tally (queue, active, pending, scheduled, retry, completed, archived, succeeded, failed, hour)
    select queues[of[e.ord]], -count(*),
        count(*) filter (where kinds[e.ord] in (5, 6)), count(*) filter (where kinds[e.ord] = 4),
        count(*) filter (where kinds[e.ord] = 3), count(*) filter (where kinds[e.ord] = 2),
        count(*) filter (where kinds[e.ord] = 7), count(*) filter (where kinds[e.ord] in (1, 2)),
        count(*) filter (where settle.failed[e.ord]), hours
    from unnest(ords) e(ord) group by of[e.ord];

    return query
        select e.ord, 1::smallint, null::text, e.ord = any(waited),
            case when kinds[e.ord] in (3, 4) and t + waits[e.ord] < coalesce(dues[of[e.ord]], 9223372036854775807)
                then t + waits[e.ord] end,
            kinds[e.ord] in (5, 6) and not q.paused, heads[of[e.ord]]
        from unnest(ords) e(ord) join asynqueue.queue q on q.id = queues[of[e.ord]]
        where kinds[e.ord] between 3 and 6 or e.ord = any(waited);
end $$;

-- The outcomes that were not recorded by a call.
create or replace function asynqueue.refused_of(response jsonb)
returns table (n integer, outcome smallint, reason text, awaited boolean, due bigint, is_open boolean, head text)
language sql stable as $$
    select r.n, r.outcome, r.reason, false, null::bigint, false, null::text
    from jsonb_to_recordset(response) r(n integer, outcome smallint, reason text)
$$;

-- Puts tasks whose lease has ended where their outcomes send them.
create or replace function asynqueue.keep(
    ords integer[], turns bigint[], of integer[], queues integer[], ids bytea[], kinds smallint[], waits bigint[],
    changes bytea[], results bytea[], envelopes bytea[], names text[], keys text[], ttls bigint[], t bigint)
returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    place bigint := nextval('asynqueue.block');
    i integer;
begin
    update asynqueue.task k set envelope = envelopes[e.ord] from unnest(ords, turns) e(ord, turn)
    where k.turn = e.turn and envelopes[e.ord] is not null and kinds[e.ord] between 2 and 7;
    insert into asynqueue.change as c (turn, changes, result)
    select e.turn, coalesce(changes[e.ord], case when envelopes[e.ord] is null then (
        select o.changes from asynqueue.change o where o.turn = e.turn) end), results[e.ord]
    from unnest(ords, turns) e(ord, turn)
    where kinds[e.ord] between 2 and 7
        and (changes[e.ord] is not null or envelopes[e.ord] is not null or kinds[e.ord] = 2)
    on conflict (turn) do update set changes = excluded.changes, result = excluded.result;
    insert into asynqueue.later (turn, queue, state, rank, at)
    select k.turn, k.queue,
        case kinds[e.ord] when 2 then 5 when 3 then 4 when 4 then 3 else 6 end, k.rank,
        case kinds[e.ord] when 7 then t else t + waits[e.ord] end
    from unnest(ords, turns) e(ord, turn) join asynqueue.task k on k.turn = e.turn
    where kinds[e.ord] in (2, 3, 4, 7);
    -- Of several tasks before the others, the last one is the first.
    insert into asynqueue.ready (queue, rank, place, first, last, at)
    select k.queue, k.rank, case kinds[e.ord] when 5 then place + e.ord - 1 else -(place + e.ord - 1) end,
        k.turn, k.turn, t
    from unnest(ords, turns) e(ord, turn) join asynqueue.task k on k.turn = e.turn
    where kinds[e.ord] in (5, 6);
    with released as (
        select l.queue, l.key from unnest(ords, turns) e(ord, turn) join asynqueue.task k on k.turn = e.turn
        join asynqueue.lock l on l.queue = k.queue and l.key = k.key and l.holder = k.id
        where kinds[e.ord] in (2, 7) and k.holds <> 3 order by l.queue, l.key for update of l skip locked)
    delete from asynqueue.lock l using released g where l.queue = g.queue and l.key = g.key;
    if keys is not null then
        for i in select o from unnest(ords) o order by names[of[o]] collate "C", keys[o], o loop
            if keys[i] is not null then
                perform asynqueue.take_lock(queues[of[i]], keys[i], ids[i], t + ttls[i], t);
            end if;
        end loop;
    end if;
end $$;
