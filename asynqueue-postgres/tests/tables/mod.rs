//! Checks of the tables: each task is in one state, nothing belongs to a task that does not exist, and the counts equal
//! the rows. They hold in every snapshot, whatever happens at the same time.

use tokio_postgres::{Client, Error};

/// Everything that is wrong with the tables now.
pub(crate) async fn problems(client: &Client) -> Result<Vec<String>, Error> {
    problems_in(client, "asynqueue").await
}

/// As [`problems`], in another schema.
#[allow(dead_code, reason = "each test binary uses a part")]
pub(crate) async fn problems_in(client: &Client, schema: &str) -> Result<Vec<String>, Error> {
    let begin = format!("set search_path to \"{schema}\"; begin isolation level repeatable read");
    client.batch_execute(&begin).await?;
    let mut problems = Vec::new();
    for sql in WRONG {
        problems.extend(texts(client, sql).await?);
    }
    client.batch_execute("commit").await?;
    Ok(problems)
}

/// The first column of a query.
pub(crate) async fn texts(client: &Client, sql: &str) -> Result<Vec<String>, Error> {
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Queries that find nothing in correct tables. Each row is a sentence.
const WRONG: [&str; 4] = [
    "with counted as (
         select q.id as queue, c.state, c.count + coalesce(sum(t.count), 0) as count
         from queue q
         cross join lateral (values
             ('pending', q.pending), ('active', q.active), ('scheduled', q.scheduled), ('retry', q.retry),
             ('completed', q.completed), ('archived', q.archived), ('aggregating', q.aggregating)) c (state, count)
         left join lateral (
             select n.count from tally y cross join lateral (values
                 ('pending', y.pending), ('active', y.active), ('scheduled', y.scheduled), ('retry', y.retry),
                 ('completed', y.completed), ('archived', y.archived), ('aggregating', y.aggregating)) n (state, count)
             where y.queue = q.id and n.state = c.state) t on true
         where q.name is not null
         group by q.id, c.state, c.count),
     found as (
         select queue, case
             when turn in (select turn from lease) then 'active'
             when turn in (select turn from member) then 'aggregating'
             else coalesce((select case state when 3 then 'scheduled' when 4 then 'retry' when 5 then 'completed'
                 else 'archived' end from later l where l.turn = k.turn), 'pending') end as state, count(*) as count
         from task k group by 1, 2)
     select format('queue %s counts %s %s tasks, but has %s', (select name from queue q where q.id = c.queue), c.count,
         c.state, coalesce(f.count, 0))
     from counted c left join found f using (queue, state) where c.count <> coalesce(f.count, 0)",
    "select format('task %s is in %s places', k.id, count(p.turn))
     from task k left join (
         select turn, 'lease' from lease union all select turn, 'later' from later
         union all select turn, 'member' from member
         union all select k.turn, 'ready' from task k join ready r
             on r.queue = k.queue and k.turn between r.first and r.last) p using (turn)
     group by k.turn, k.id having count(p.turn) <> 1",
    "select format('%s %s has no task', p.place, p.turn) from (
         select turn, 'lease' as place from lease union all select turn, 'later' from later
         union all select turn, 'member' from member union all select turn, 'change' from change) p
     where not exists (select from task k where k.turn = p.turn)",
    "select format('report about %s has no lease', turn) from running r
     where not exists (select from lease l where l.turn = r.turn)",
];
