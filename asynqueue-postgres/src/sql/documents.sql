-- Makes all changes of a set of documents, or none. `expects`: null any content, 0 the document does not exist, else
-- its version. `puts`: 0 keep, 1 set, 2 remove. Returns whether the set was made, and the documents that are kept.
-- `again`: the response to this call was lost.
create or replace function asynqueue.swap(
    spaces text[], names text[], expects bigint[], puts smallint[], contents bytea[], dues bigint[],
    lane text, call bigint, again boolean)
returns table (n integer, is_done boolean, bytes bytea, due bigint, version bigint)
language plpgsql volatile
set enable_seqscan = off set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    ok boolean := true;
    found_version bigint;
    kept jsonb;
begin
    -- In one order, so that sets do not wait for each other in a circle.
    perform pg_advisory_xact_lock(1634956656, l.key) from (
        select distinct hashtext('asynqueue.' || u.space || ':' || u.name) as key
        from unnest(spaces, names) u(space, name) order by 1) l;
    if again then
        select c.response into kept from asynqueue.call c where c.lane = swap.lane and c.number = swap.call;
        if found then
            ok := (kept ->> 'done')::boolean;
            return query select 0, ok, null::bytea, null::bigint, null::bigint;
            return query select r.n, ok, r.bytes, r.due, r.version
                from jsonb_to_recordset(kept -> 'kept') r(n integer, bytes bytea, due bigint, version bigint);
            return;
        end if;
    end if;
    for i in 1..cardinality(names) loop
        select d.version into found_version from asynqueue.document d where d.space = spaces[i] and d.name = names[i];
        ok := ok and (expects[i] is null or expects[i] = coalesce(found_version, 0));
    end loop;
    return query select 0, ok, null::bytea, null::bigint, null::bigint;
    select jsonb_agg(jsonb_build_object('n', u.ord, 'bytes', d.bytes, 'due', d.due, 'version', d.version)) into kept
    from unnest(spaces, names) with ordinality u(space, name, ord)
    join asynqueue.document d on d.space = u.space and d.name = u.name where puts[u.ord] = 0;
    return query select r.n, ok, r.bytes, r.due, r.version
        from jsonb_to_recordset(kept) r(n integer, bytes bytea, due bigint, version bigint);
    -- A refusal too: made again after a change of another caller, the set could be made although it was refused.
    perform asynqueue.note_call(lane, call, asynqueue.now_at(null), jsonb_build_object('done', ok, 'kept', coalesce(kept, '[]')));
    if not ok then
        return;
    end if;
    delete from asynqueue.document d using unnest(spaces, names) with ordinality u(space, name, ord)
    where d.space = u.space and d.name = u.name and puts[u.ord] = 2;
    insert into asynqueue.document as d (space, name, version, due, bytes)
    select u.space, u.name, nextval('asynqueue.token'), dues[u.ord], contents[u.ord]
    from unnest(spaces, names) with ordinality u(space, name, ord) where puts[u.ord] = 1
    on conflict (space, name) do update
    set version = excluded.version, due = excluded.due, bytes = excluded.bytes;
end $$;
