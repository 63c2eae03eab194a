-- Adds figures over time. A point has its series `names[of[n]]`, a time, a group (`parts`), a key, a note, and
-- slots with their numbers from `firsts` to `lasts`. Points of a series that are older than `kept_since` are deleted.
-- A group has up to `max_keys` keys at a time; those beyond are added to the key `''`. `again`: the response to this
-- call was lost.
create or replace function asynqueue.add_points(
    names text[], kept_since bigint[], max_keys integer[],
    of integer[], ats bigint[], parts text[], keys text[], notes bytea[],
    firsts integer[], lasts integer[], slots smallint[], numbers bigint[],
    lane text, call bigint, again boolean)
returns void
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    i integer;
    is_rest boolean;
begin
    -- In one order, so that calls do not wait for each other in a circle.
    perform pg_advisory_xact_lock(1634956657, l.key)
    from (select distinct hashtext('asynqueue.' || u.name) as key from unnest(names) u(name) order by 1) l;
    if again and exists (
        select from asynqueue.call c where c.lane = add_points.lane and c.number = add_points.call)
    then
        return;
    end if;
    perform asynqueue.note_call(lane, call, asynqueue.now_at(null), null);
    delete from asynqueue.point p using unnest(names, kept_since) u(name, since)
    where p.series = u.name and p.at < u.since;
    for i in 1..cardinality(of) loop
        is_rest := keys[i] <> ''
            and not exists (
                select from asynqueue.point p
                where p.series = names[of[i]] and p.at = ats[i] and p.part = parts[i] and p.key = keys[i])
            and max_keys[of[i]] <= (
                select count(*) from asynqueue.point p
                where p.series = names[of[i]] and p.at = ats[i] and p.part = parts[i] and p.key <> '');
        insert into asynqueue.point as p (series, at, part, key, slots, numbers, note)
        values (
            names[of[i]], ats[i], parts[i], case when is_rest then '' else keys[i] end,
            slots[firsts[i]:lasts[i]], numbers[firsts[i]:lasts[i]], case when is_rest then '' else notes[i] end)
        on conflict (series, at, part, key) do update
        set (slots, numbers) = (
            select array_agg(s.slot order by s.slot), array_agg(s.n order by s.slot)
            from (
                select u.slot, least(sum(u.n), 9007199254740992)::bigint as n
                from (
                    select * from unnest(p.slots, p.numbers) union all select * from unnest(excluded.slots, excluded.numbers)
                ) u(slot, n) group by u.slot) s)
        where cardinality(excluded.slots) > 0;
    end loop;
end $$;
