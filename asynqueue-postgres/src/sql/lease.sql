-- Leases pending tasks of the queues `names`, in this order: at most `limits[n]` of each, and `total` or 1,000 in all.
-- `again`: the response to this call was lost. If it has leased tasks, their leases are extended.
create or replace function asynqueue.lease(
    names text[], limits integer[], total integer, lasts bigint, worker text, fixed bigint,
    lane text, call bigint, again boolean)
returns table (n integer, id bytea, envelope bytea, changes bytea, token bigint, since bigint, at bigint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set enable_material = off set jit = off as $$
declare
    t bigint := asynqueue.now_at(fixed);
    number integer;
    wanted integer;
    taken integer;
    ranges integer;
    is_locked boolean;
    may_wait boolean := true;
    ranks smallint[];
    places bigint[];
    firsts bigint[];
    lasts_of bigint[];
    ats bigint[];
    tokens bigint;
    leased integer := 0;
begin
    if again then
        select c.response::bigint into tokens from asynqueue.call c where c.lane = lease.lane and c.number = lease.call;
        if found then
            return query select * from asynqueue.lease_again(names, limits, total, lasts, tokens, t);
            return;
        end if;
    end if;
    total := least(total, 1000);
    for i in 1..cardinality(names) loop
        select q.id into number from asynqueue.queue q where q.name = names[i] and not q.paused;
        continue when number is null;
        wanted := least(limits[i], total);
        is_locked := false;
        while wanted > 0 loop
            -- As many ranges as are needed are locked, so that other workers have the others.
            select count(*) into ranges from (
                select sum(r.last - r.first + 1) over (order by r.rank, r.place) - (r.last - r.first + 1) as before
                from asynqueue.ready r where r.queue = number order by r.rank, r.place limit wanted) s
            where s.before < wanted;
            exit when ranges = 0;
            if is_locked then
                -- Other workers have locked all of them for a moment. Waiting with locks on other ranges could be a
                -- deadlock: then the next call finds what they leave.
                exit when not may_wait;
                perform from asynqueue.ready r where r.queue = number order by r.rank, r.place limit 1 for update;
                may_wait := not found;
            end if;
            -- Locked first, and read by the next statement: this one may not see what another worker has left of a range.
            select array_agg(l.rank), array_agg(l.place), array_agg(l.first), array_agg(l.last), array_agg(l.at)
            into ranks, places, firsts, lasts_of, ats
            from (
                select r.rank, r.place, r.first, r.last, r.at from asynqueue.ready r where r.queue = number
                order by r.rank, r.place limit ranges for update skip locked) l;
            may_wait := may_wait and ranks is null;
            tokens := coalesce(tokens, nextval('asynqueue.token'));
            return query
                with counted as (
                    select l.*, sum(l.last - l.first + 1) over (order by l.rank, l.place) as upto
                    from unnest(ranks, places, firsts, lasts_of, ats) l(rank, place, first, last, at)),
                cut as materialized (
                    select c.rank, c.place, c.first, c.last, c.at,
                        least(c.last, c.last - (c.upto - wanted)::bigint) as cut
                    from counted c where c.upto - (c.last - c.first + 1) < wanted),
                gone as (
                    delete from asynqueue.ready r
                    where r.queue = number and r.rank = any(array(select c.rank from cut c where c.cut = c.last))
                        and r.place = any(array(select c.place from cut c where c.cut = c.last))),
                -- At most one.
                rest as (
                    update asynqueue.ready r
                    set place = r.place + (select c.cut - c.first + 1 from cut c where c.cut < c.last),
                        first = (select c.cut + 1 from cut c where c.cut < c.last)
                    where r.queue = number and r.rank = (select c.rank from cut c where c.cut < c.last)
                        and r.place = (select c.place from cut c where c.cut < c.last)),
                tasks as materialized (
                    select k.*, c.at,
                        tokens + leased + row_number() over (order by c.rank, c.place, k.turn) - 1 as token
                    from cut c cross join lateral (
                        select k.turn, k.id, k.envelope, k.key, k.holds
                        from asynqueue.task k where k.turn >= c.first and k.turn <= c.cut offset 0) k),
                begun as (
                    insert into asynqueue.lease (turn, queue, token, until, worker)
                    select k.turn, number, k.token, t + lasts, lease.worker from tasks k),
                -- A unique lock that is locked has ended, and is being taken by another task.
                ended as (
                    select l.key from tasks k cross join lateral (
                        select l.key from asynqueue.lock l
                        where l.queue = number and l.key = k.key and l.holder = k.id offset 0 for update skip locked) l
                    where k.holds = 1),
                started as (
                    delete from asynqueue.lock l
                    where l.queue = number and l.key = any(array(select e.key from ended e)))
                select i, k.id, k.envelope,
                    (select c.changes from asynqueue.change c where c.turn = k.turn), k.token, k.at, t
                from tasks k order by k.token;
            get diagnostics taken = row_count;
            is_locked := ranks is null;
            if taken > 0 then
                insert into asynqueue.tally (queue, pending, active) values (number, -taken, taken);
                leased := leased + taken;
                wanted := wanted - taken;
                total := total - taken;
            end if;
        end loop;
    end loop;
    -- One that is made again is noted in any case: the first request may still arrive.
    if leased > 0 or again then
        perform asynqueue.note_call(lane, call, t, to_jsonb(tokens));
    end if;
end $$;

-- The leases with a block of tokens that are still current, extended, within the limits of a request.
create or replace function asynqueue.lease_again(
    names text[], limits integer[], total integer, lasts bigint, tokens bigint, t bigint)
returns table (n integer, id bytea, envelope bytea, changes bytea, token bigint, since bigint, at bigint)
language plpgsql volatile as $$
begin
    return query
        with held as materialized (
            select u.ord::integer as n, l.turn, l.token, u.most,
                row_number() over (partition by u.ord order by l.token) as place
            from asynqueue.lease l join asynqueue.queue q on q.id = l.queue
            join unnest(names, limits) with ordinality u(name, most, ord) on u.name = q.name
            where l.token >= tokens and l.token < tokens + 1024 and l.until > t),
        extended as (
            update asynqueue.lease l set until = t + lasts
            from (select * from held h where h.place <= h.most order by h.token limit total) h
            where l.turn = h.turn and l.token = h.token returning h.n, l.turn, l.token)
        select e.n, k.id, k.envelope,
            (select c.changes from asynqueue.change c where c.turn = k.turn), e.token, t, t
        from extended e cross join lateral (
            select k.turn, k.id, k.envelope from asynqueue.task k where k.turn = e.turn offset 0) k
        order by e.token;
end $$;
