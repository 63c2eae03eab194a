-- Calls that are made again because their response was lost. A call that changes something has the name of a lane and a
-- number. A lane belongs to one process and has one call in progress, with a higher number than those before.

-- Notes a call. It fails if it was made before, or if a later one was: then a first request has arrived after it was given
-- up and made again. The response is null if it is the usual one. The lane is null in a transaction of a caller, where
-- nothing is made again.
create or replace function asynqueue.note_call(of_lane text, of_number bigint, t bigint, content jsonb) returns void
language plpgsql volatile as $$
begin
    if of_lane is null then
        return;
    end if;
    insert into asynqueue.call (lane, number, at, response)
    select of_lane, of_number, t, content
    where not exists (select from asynqueue.call c where c.lane = of_lane and c.number > of_number)
    on conflict do nothing;
    if not found then
        raise exception using errcode = 'AQ002', message = 'this call was made before';
    end if;
end $$;

-- Notes the response to a call.
create or replace function asynqueue.note_response(of_lane text, of_number bigint, content jsonb) returns void
language plpgsql volatile as $$
begin
    update asynqueue.call set response = content where lane = of_lane and number = of_number;
end $$;

-- Deletes calls that were followed by another in their lane, and those of processes that ended a day ago, unless another
-- process does so.
create or replace function asynqueue.forget_calls(t bigint) returns void
language plpgsql volatile
set jit = off as $$
begin
    if not pg_try_advisory_xact_lock(1634956655, asynqueue.lock_of(0)) then
        return;
    end if;
    delete from asynqueue.call c
    using (select lane, max(number) as number from asynqueue.call group by lane) last
    where c.lane = last.lane and (c.number < last.number or c.at < t - 86400000);
end $$;
