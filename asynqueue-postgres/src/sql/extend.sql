-- Extends leases. Returns for each: 0 it is not current, 1 it was extended, 2 and a cancellation was requested.
create or replace function asynqueue.extend(
    names text[], of integer[], ids bytea[], tokens bigint[], lasts bigint, fixed bigint)
returns table (n integer, outcome smallint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    queues integer[];
    found_turns bigint[];
    ords integer[];
    turns bigint[];
    one record;
    patience text := '100ms';
begin
    -- Lost with a crash of the database, together with the connection that wrote it: the lease is then older, not
    -- wrong.
    perform set_config('synchronous_commit', 'off', true);
    -- Without waiting for one that is locked: the others must not end in the meantime, and a call that settles leases
    -- in another order may wait for this one.
    queues := array(select (select q.id from asynqueue.queue q where q.name = u.name) from unnest(names) u(name));
    found_turns := array(
        select (select k.turn from asynqueue.task k where k.queue = queues[u.q] and k.id = u.id)
        from unnest(of, ids) u(q, id));
    select coalesce(array_agg(c.ord), '{}'), coalesce(array_agg(c.turn), '{}') into ords, turns from (
        select u.ord::integer as ord, l.turn from (
            select * from unnest(found_turns, tokens) with ordinality u(turn, token, ord) order by u.turn) u
        cross join lateral (
            select l.turn from asynqueue.lease l where l.turn = u.turn and l.token = u.token
            offset 0 for update skip locked) l) c;
    update asynqueue.lease l set until = t + lasts where l.turn = any(turns);
    if cardinality(ords) < cardinality(ids) then
        for one in
            select u.ord::integer as ord, l.turn, l.token, l.until
            from unnest(found_turns, tokens) with ordinality u(turn, token, ord)
            cross join lateral (
                select l.turn, l.token, l.until from asynqueue.lease l
                where l.turn = u.turn and l.token = u.token offset 0) l
            where not u.ord = any(ords) order by l.turn
        loop
            begin
                perform set_config('lock_timeout', patience, true);
                update asynqueue.lease l set until = t + lasts where l.turn = one.turn and l.token = one.token;
                if found then
                    ords := ords || one.ord; turns := turns || one.turn;
                end if;
            exception when lock_not_available then
                -- Its handler is completing it, in a transaction that is still open. Nobody else can take it before
                -- that ends. One that has expired may be locked by a server that reclaims it.
                if one.until > t then
                    ords := ords || one.ord; turns := turns || one.turn;
                end if;
                patience := '1ms';
            end;
        end loop;
    end if;
    return query select e.ord, case when r.cancel is not null then 2 else 1 end::smallint
        from unnest(ords, turns) e(ord, turn) left join asynqueue.running r on r.turn = e.turn;
    if exists (select from asynqueue.settled) then
        return query select u.ord::integer, 1::smallint from unnest(tokens) with ordinality u(token, ord)
            join asynqueue.settled s on s.token = u.token;
    end if;
end $$;

-- Stores the newest progress of active tasks.
create or replace function asynqueue.report(
    names text[], of integer[], ids bytea[], tokens bigint[], reports bytea[])
returns void
language plpgsql volatile as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    -- Leases are locked, so that an outcome that ends one of them removes what is added here. In the order of their turns,
    -- in which outcomes lock them.
    insert into asynqueue.running as r (turn, progress)
    select distinct on (h.turn) h.turn, h.report
    from (
        select f.turn, f.report, f.ord from (
            select k.turn, u.token, u.report, u.ord
            from unnest(of, ids, tokens, reports) with ordinality u(q, id, token, report, ord)
            cross join lateral (
                select k.turn from asynqueue.task k where k.id = u.id
                    and k.queue = (select q.id from asynqueue.queue q where q.name = names[u.q]) offset 0) k
            order by k.turn) f
        cross join lateral (
            select l.turn from asynqueue.lease l where l.turn = f.turn and l.token = f.token
            offset 0 for key share) l) h
    order by h.turn, h.ord desc
    on conflict (turn) do update set progress = excluded.progress;
end $$;
