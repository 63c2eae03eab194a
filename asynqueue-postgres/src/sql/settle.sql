-- Records the outcomes of leases. `kinds`: 1 completed and deleted, 2 completed and kept for `waits`, 3 retried after
-- `waits`, 4 waits for `waits`, 5 pending behind the others, 6 pending before the others, 7 archived, 8 deleted.
-- `failed`: the attempt counts as a failure, or as lost if it ends by `if_expired`. A task with a key in `keys` takes
-- this lock again, for `ttls`. A task that is kept may have `changes`, or a new envelope.
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
    found_turns bigint[];
    wanted bigint[];
    ended bigint[];
    ended_tokens bigint[];
    ords integer[];
    turns bigint[];
    done bigint[];
    locked record;
    reclaimed bigint[] := '{}';
    blocked integer[] := '{}';
    reasons text[] := '{}';
    known integer[] := '{}';
    refused jsonb;
    is_late boolean;
    i integer;
    waited integer[] := '{}';
    heads text[];
    dues bigint[];
    has_changes boolean := exists (select from asynqueue.change);
begin
    if again then
        select c.response into refused from asynqueue.call c where c.lane = settle.lane and c.number = settle.call;
        if found then
            return query select * from asynqueue.refused_of(refused);
            -- The first response was to be announced: here whatever it may have been.
            return query
                select u.ord::integer, 1::smallint, null::text, u.kind in (1, 2, 7, 8),
                    case when u.kind in (3, 4) then (
                        select asynqueue.first_due(q.id) from asynqueue.queue q where q.name = names[u.q]) end,
                    u.kind in (5, 6), null::text
                from unnest(of, kinds) with ordinality u(q, kind, ord)
                where not exists (select from asynqueue.refused_of(refused) r where r.n = u.ord);
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
    found_turns := array(
        select (select k.turn from asynqueue.task k where k.queue = queues[u.q] and k.id = u.id)
        from unnest(of, ids) u(q, id));
    wanted := found_turns;
    if exists (select from asynqueue.running where cancel is not null) then
        select coalesce(array_agg(u.ord), '{}'), coalesce(array_agg(r.cancel), '{}') into blocked, reasons
        from unnest(found_turns, tokens, kinds, is_cancelled) with ordinality u(turn, token, kind, cancelled, ord)
        join asynqueue.running r on r.turn = u.turn and r.cancel is not null
        where u.kind between 3 and 7 and not u.cancelled
            and (select l.token from asynqueue.lease l where l.turn = u.turn) = u.token;
    end if;
    if true = any(if_expired) then
        -- A lease that is locked is being extended, or completed in a transaction of its handler that may stay open.
        reclaimed := array(
            select l.turn from (
                select u.turn, u.token from unnest(found_turns, tokens, if_expired) u(turn, token, expired)
                where u.expired order by u.turn) u
            cross join lateral (
                select l.turn from asynqueue.lease l where l.turn = u.turn and l.token = u.token and l.until <= t
                offset 0 for update skip locked) l);
    end if;
    if cardinality(blocked) > 0 or true = any(if_expired) then
        wanted := array(
            select case when not u.ord = any(blocked) and (not u.expired or u.turn = any(reclaimed)) then u.turn end
            from unnest(found_turns, if_expired) with ordinality u(turn, expired, ord));
    end if;

    with gone as (
        delete from asynqueue.lease l
        where l.turn = any(wanted) and l.token = any(array(
            select u.token from unnest(wanted, tokens) u(turn, token) where u.turn is not null))
        returning l.turn, l.token)
    select array_agg(g.turn), array_agg(g.token) into ended, ended_tokens from gone g;
    if cardinality(ended) = cardinality(ids) then
        ords := array(select generate_series(1, cardinality(ids)));
        turns := found_turns;
    else
        select array_agg(u.ord), array_agg(u.turn) into ords, turns
        from unnest(wanted, tokens) with ordinality u(turn, token, ord)
        join unnest(ended, ended_tokens) g(turn, token) using (turn, token);
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
        with gone as (delete from asynqueue.running r where r.turn = any(turns) returning r.turn, r.cancel),
        cancelled as (select ords[array_position(turns, g.turn)] as ord from gone g where g.cancel is not null)
        select bool_or(kinds[c.ord] between 3 and 7 and not is_cancelled[c.ord]) into is_late from cancelled c;
        if is_late then
            -- Requested while this call waited for the lease: made again, it sees the request.
            raise exception using errcode = '40001', message = 'a cancellation was requested meanwhile';
        end if;
    end if;
    -- Completed or dropped. A caller that starts to wait locks the row, so its own row is seen below, or it finds no task.
    if 1 = any(kinds) or 8 = any(kinds) then
        done := array(select e.turn from unnest(ords, turns) e(ord, turn) where kinds[e.ord] in (1, 8));
        for locked in
            with gone as (
                delete from asynqueue.task k where k.turn = any(done) returning k.queue, k.id, k.key, k.holds)
            select g.queue, g.key, g.id from gone g where g.key is not null and g.holds <> 3 order by g.queue, g.key
        loop
            perform asynqueue.release_lock(locked.queue, locked.key, locked.id);
        end loop;
        if has_changes then
            delete from asynqueue.change c where c.turn = any(done);
        end if;
    end if;
    if 2 = any(kinds) or 7 = any(kinds) then
        perform from asynqueue.task k where k.turn = any(array(
            select e.turn from unnest(ords, turns) e(ord, turn) where kinds[e.ord] in (2, 7))) for update;
    end if;
    if exists (select from asynqueue.waiter) then
        for i in select e.ord from unnest(ords) e(ord) where kinds[e.ord] in (1, 2, 7, 8) loop
            delete from asynqueue.waiter w where w.queue = queues[of[i]] and w.id = ids[i];
            if found then
                waited := waited || i;
            end if;
        end loop;
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

    insert into asynqueue.tally (queue, active, pending, scheduled, retry, completed, archived, succeeded, failed, lost,
        hour)
    select queues[of[e.ord]], -count(*),
        count(*) filter (where kinds[e.ord] in (5, 6)), count(*) filter (where kinds[e.ord] = 4),
        count(*) filter (where kinds[e.ord] = 3), count(*) filter (where kinds[e.ord] = 2),
        count(*) filter (where kinds[e.ord] = 7), count(*) filter (where kinds[e.ord] in (1, 2)),
        count(*) filter (where settle.failed[e.ord] and not if_expired[e.ord]),
        count(*) filter (where settle.failed[e.ord] and if_expired[e.ord]), hours
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
    one record;
    i integer;
begin
    if envelopes is not null then
        for one in
            select e.ord, e.turn from unnest(ords, turns) e(ord, turn)
            where envelopes[e.ord] is not null and kinds[e.ord] between 2 and 7
        loop
            update asynqueue.task k set envelope = envelopes[one.ord] where k.turn = one.turn;
        end loop;
    end if;
    insert into asynqueue.change as c (turn, changes, result)
    select e.turn, coalesce(changes[e.ord], case when envelopes[e.ord] is null then (
        select o.changes from asynqueue.change o where o.turn = e.turn) end), results[e.ord]
    from unnest(ords, turns) e(ord, turn)
    where kinds[e.ord] between 2 and 7
        and (changes[e.ord] is not null or envelopes[e.ord] is not null or kinds[e.ord] = 2)
    on conflict (turn) do update set changes = excluded.changes, result = excluded.result;
    insert into asynqueue.later (turn, queue, state, rank, at)
    select e.turn, k.queue,
        case kinds[e.ord] when 2 then 5 when 3 then 4 when 4 then 3 else 6 end, k.rank,
        case kinds[e.ord] when 7 then t else t + waits[e.ord] end
    from unnest(ords, turns) e(ord, turn)
    cross join lateral (select k.queue, k.rank from asynqueue.task k where k.turn = e.turn offset 0) k
    where kinds[e.ord] in (2, 3, 4, 7);
    -- Of several tasks before the others, the last one is the first.
    insert into asynqueue.ready (queue, rank, place, first, last, at)
    select k.queue, k.rank, case kinds[e.ord] when 5 then place + e.ord - 1 else -(place + e.ord - 1) end,
        e.turn, e.turn, t
    from unnest(ords, turns) e(ord, turn)
    cross join lateral (select k.queue, k.rank from asynqueue.task k where k.turn = e.turn offset 0) k
    where kinds[e.ord] in (5, 6);
    if 2 = any(kinds) or 7 = any(kinds) then
        for one in
            select k.queue, k.key, k.id from unnest(ords, turns) e(ord, turn)
            cross join lateral (
                select k.queue, k.key, k.id from asynqueue.task k where k.turn = e.turn and k.holds <> 3 offset 0) k
            where kinds[e.ord] in (2, 7) order by k.queue, k.key
        loop
            perform asynqueue.release_lock(one.queue, one.key, one.id);
        end loop;
    end if;
    if keys is not null then
        for i in select o from unnest(ords) o order by names[of[o]] collate "C", keys[o], o loop
            if keys[i] is not null then
                perform asynqueue.take_lock(queues[of[i]], keys[i], ids[i], t + ttls[i], t);
            end if;
        end loop;
    end if;
end $$;
