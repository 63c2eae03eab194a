-- Extends leases. Returns for each: 0 it is not current, 1 it was extended, 2 and a cancellation was requested.
create or replace function asynqueue.extend(
    names text[], of integer[], ids bytea[], tokens bigint[], lasts bigint, fixed bigint)
returns table (n integer, outcome smallint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
begin
    -- Lost with a crash of the database, together with the connection that wrote it: the lease is then older, not wrong.
    perform set_config('synchronous_commit', 'off', true);
    return query
        with extended as (
            update asynqueue.lease l set until = t + lasts
            from unnest(of, ids, tokens) with ordinality u(q, id, token, ord),
                asynqueue.queue q, asynqueue.task k
            where q.name = names[u.q] and k.queue = q.id and k.id = u.id and l.turn = k.turn and l.token = u.token
            returning u.ord, l.turn)
        select e.ord::integer,
            case when exists (select from asynqueue.running r where r.turn = e.turn and r.cancel is not null)
                then 2 else 1 end::smallint
        from extended e;
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
    -- Leases are locked, so that an outcome that ends one of them removes what is added here.
    insert into asynqueue.running as r (turn, progress)
    select distinct on (h.turn) h.turn, h.report
    from (
        select l.turn, u.report, u.ord from unnest(of, ids, tokens, reports) with ordinality u(q, id, token, report, ord)
        join asynqueue.queue q on q.name = names[u.q]
        join asynqueue.task k on k.queue = q.id and k.id = u.id
        join asynqueue.lease l on l.turn = k.turn and l.token = u.token
        for key share of l) h
    order by h.turn, h.ord desc
    on conflict (turn) do update set progress = excluded.progress;
end $$;
