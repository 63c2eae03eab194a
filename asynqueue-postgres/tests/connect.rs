//! Connecting: roles, versions and schemas that work, and what is said about the ones that do not.

mod common;

use std::{os::unix::fs::PermissionsExt, time::Duration};

use asynqueue_core::broker::{Signal, Store};
use asynqueue_postgres::{PostgresBroker, PostgresOptions, migrate, schema_sql};
use asynqueue_test_servers::{Postgres, RedisServer, eventually};
use common::{enqueue, log::Log, options, pending, work};
use futures_util::{StreamExt, future::join_all};
use tokio::{io::AsyncWriteExt, net::TcpListener};

/// Why there is no broker.
async fn refused(url: &str) -> String {
    let broker = PostgresBroker::connect(options(url)).await;
    broker.expect_err("no broker").to_string()
}

/// An empty database, and its URLs for the superuser and for a role that was created with these rights.
async fn database(server: &Postgres, name: &str) -> (String, String) {
    let url = server.database(name).await;
    server.execute(&format!("create role {name} login")).await;
    let of_role = url.replace("postgres@", &format!("{name}@"));
    (url, of_role)
}

async fn execute(url: &str, sql: &str) {
    let client = Postgres::connect(url).await;
    client.batch_execute(sql).await.expect("executed");
}

#[tokio::test]
async fn a_role_that_owns_only_its_schema_migrates_and_works() {
    let server = Postgres::shared().await;
    let (url, of_role) = database(&server, "keeper").await;
    let of_role = format!("{of_role}?schema=jobs");
    let at = format!("127.0.0.1:{}", server.port());
    assert_eq!(
        refused(&of_role).await,
        "cannot migrate schema `jobs`: it does not exist, and cannot be created: permission denied for database keeper: \
         run `create schema \"jobs\" authorization …` with the name of the role as an owner of the database"
    );
    execute(&url, "create schema jobs authorization keeper").await;
    work(&common::open(&of_role).await, "task").await;

    // Another one can neither read the version nor change it.
    server.execute("create role stranger login").await;
    let stranger = of_role.replace("keeper@", "stranger@");
    let problem = refused(&stranger).await;
    assert_eq!(
        problem,
        "cannot use schema `jobs`: permission denied for schema jobs: the role must own the schema, or have \
         privileges on it: `grant usage on schema … to …`, and `grant select, insert, update, delete on all tables in \
         schema … to …`",
        "{at}"
    );
}

#[tokio::test]
async fn a_role_with_the_documented_privileges_works_on_the_tables_of_their_owner() {
    let server = Postgres::shared().await;
    let (url, of_role) = database(&server, "worker").await;
    let docs = include_str!("../../docs/src/operations/postgres.md");
    let grants = docs
        .split("```")
        .find_map(|block| block.strip_prefix("sql\ngrant "));
    let grants = format!("grant {}", grants.expect("a block")).replace(" to shop;", " to worker;");
    migrate(&options(&url)).await.expect("migrated");
    execute(&url, &grants).await;
    let broker = common::open(&format!("{of_role}?migrate=false")).await;
    work(&broker, "task").await;
    let removed = Store::delete_queue(&broker, &"q".into(), true).await;
    assert!(removed.expect("a result"));
}

#[tokio::test]
async fn without_migrate_the_tables_must_exist() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let schema = options(&url).schema_name().to_owned();
    let unmigrated = format!("{url}&migrate=false");
    let missing = format!(
        "schema `{schema}` has tables of version 0, and this program needs 1: run `asynqueue migrate`, or connect without \
         `migrate=false`"
    );
    assert_eq!(refused(&unmigrated).await, missing);
    server.execute(&format!("create schema \"{schema}\"")).await;
    assert_eq!(refused(&unmigrated).await, missing);
    migrate(&options(&url)).await.expect("migrated");
    work(&common::open(&unmigrated).await, "task").await;
}

#[tokio::test]
async fn the_printed_statements_make_the_tables_that_migrate_makes() {
    let server = Postgres::shared().await;
    let (url, of_role) = database(&server, "printer").await;
    execute(&url, "create schema \"My jobs\" authorization printer").await;
    execute(&of_role, &schema_sql("My jobs")).await;
    let broker = common::open(&format!("{of_role}?schema=My%20jobs&migrate=false")).await;
    work(&broker, "task").await;

    let migrated = server.new_schema();
    migrate(&options(&migrated)).await.expect("migrated");
    let name = options(&migrated).schema_name().to_owned();
    let client = Postgres::connect(&url).await;
    let other = Postgres::connect(&migrated).await;
    assert_eq!(
        described(&client, "My jobs").await,
        described(&other, &name).await
    );
}

/// All columns and functions of a schema.
async fn described(client: &tokio_postgres::Client, schema: &str) -> Vec<String> {
    let sql = "select format('%s.%s %s %s', table_name, column_name, data_type, column_default)
         from information_schema.columns where table_schema = $1
         union all select format('%s(%s) %s', proname, pg_get_function_arguments(p.oid), prosrc)
         from pg_proc p join pg_namespace n on n.oid = pronamespace where nspname = $1 order by 1";
    let rows = client.query(sql, &[&schema]).await.expect("rows");
    let quoted = format!("\"{schema}\"");
    let texts = rows.iter().map(|row| row.get::<_, String>(0));
    texts
        .map(|text| text.replace(&quoted, "…").replace(schema, "…"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_together_migrate_once() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let brokers = join_all((0..8).map(|_| common::open(&url))).await;
    for (number, broker) in brokers.iter().enumerate() {
        work(broker, &format!("task-{number}")).await;
    }
    let client = Postgres::connect(&url).await;
    let rows = client.query("select version from meta", &[]).await;
    assert_eq!(rows.expect("rows").len(), 1);
}

#[tokio::test]
async fn a_migration_waits_for_another_one_longer_than_its_role_may_and_says_so() {
    let log = Log::of_this_thread();
    let server = Postgres::shared().await;
    let (url, of_role) = database(&server, "hasty").await;
    let prepare = "alter role hasty set lock_timeout = '200ms'; alter role hasty set statement_timeout = '200ms';
         create schema asynqueue authorization hasty";
    execute(&url, prepare).await;
    let mut other = Postgres::connect(&url).await;
    let transaction = other.transaction().await.expect("begun");
    let lock = "select pg_advisory_xact_lock(1634956657, hashtext('asynqueue'))";
    transaction.batch_execute(lock).await.expect("locked");
    let connecting = PostgresBroker::connect(options(&of_role));
    let ending = async {
        eventually("the log says so", || async {
            let text = log.text();
            text.contains("another process is migrating the schema; waiting until it has ended")
        })
        .await;
        transaction.rollback().await.expect("ended");
    };
    let (connected, ()) = tokio::join!(connecting, ending);
    connected.expect("a broker");
    let text = log.text();
    assert!(
        text.contains("the migration by another process has ended; continuing"),
        "{text}"
    );
}

#[tokio::test]
async fn an_older_program_uses_later_tables_unless_they_say_that_it_cannot() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let schema = options(&url).schema_name().to_owned();
    let first = common::open(&url).await;
    execute(&url, "update meta set version = 7").await;
    for url in [url.clone(), format!("{url}&migrate=false")] {
        work(&common::open(&url).await, "beside").await;
        work(&first, "before").await;
    }
    let client = Postgres::connect(&url).await;
    let row = client.query_one("select version from meta", &[]).await;
    assert_eq!(row.expect("a row").get::<_, i32>(0), 7, "it was set back");

    execute(&url, "update meta set usable_from = 7").await;
    for url in [url.clone(), format!("{url}&migrate=false")] {
        assert_eq!(
            refused(&url).await,
            format!(
                "schema `{schema}` has tables of version 7, and this program supports versions up to 1: use a later \
                 version of asynqueue"
            )
        );
    }
}

#[tokio::test]
async fn a_schema_may_have_any_name_without_quotes() {
    let server = Postgres::shared().await;
    for name in [
        "My%20jobs",
        "shop.tasks",
        "UPPER",
        "Gr%C3%B6%C3%9Fe",
        "asynqueue.x",
        "100%25",
    ] {
        let url = format!("{}?schema={name}", server.url());
        let broker = common::open(&url).await;
        work(&broker, "task").await;
        // The second one finds the tables, and hears of what the first one does.
        let other = common::open(&url).await;
        let queues = ["q".into()];
        let mut signals = Store::signals(&other, &queues).await.expect("signals");
        enqueue(&broker, "heard").await.expect("accepted");
        let heard = tokio::time::timeout(common::LIMIT, signals.next()).await;
        let expected = Some(Signal::Pending("q".into()));
        assert_eq!(heard.expect("a notification"), expected, "{name}");
    }
}

#[tokio::test]
async fn two_schemas_of_a_database_do_not_see_each_other() {
    let server = Postgres::shared().await;
    let first = common::open(&server.new_schema()).await;
    let second = common::open(&server.new_schema()).await;
    enqueue(&first, "task").await.expect("accepted");
    assert_eq!(pending(&second).await.expect("figures"), 0);
    enqueue(&second, "task").await.expect("the id is free here");
    assert_eq!(common::drain(&first).await, ["task"]);
    assert_eq!(pending(&second).await.expect("figures"), 1);
}

/// A server on which the superuser needs no password, and others do.
async fn with_passwords() -> (tempfile::TempDir, Postgres) {
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = |mode| PermissionsExt::from_mode(mode);
    std::fs::set_permissions(folder.path(), everybody(0o755)).expect("set");
    let rules = folder.path().join("pg_hba.conf");
    let lines = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(&rules, lines).expect("written");
    std::fs::set_permissions(&rules, everybody(0o644)).expect("set");
    let server = Postgres::with(&[&format!("hba_file={}", rules.display())]).await;
    (folder, server)
}

#[tokio::test]
async fn a_wrong_password_or_database_is_named() {
    let (_folder, server) = with_passwords().await;
    server
        .execute("create role ada superuser login password 'right @ all'")
        .await;
    let at = format!("127.0.0.1:{}", server.port());
    let right = format!("postgres://ada:right%20%40%20all@{at}/postgres");
    work(&common::open(&right).await, "task").await;
    let advice = "check the user and the password in the URL, and `pg_hba.conf` of the server";
    let wrong = format!("postgres://ada:wrong@{at}/postgres");
    assert_eq!(
        refused(&wrong).await,
        format!(
            "cannot connect to {at}: password authentication failed for user \"ada\": {advice}"
        )
    );
    let none = format!("postgres://ada@{at}/postgres");
    let problem = refused(&none).await;
    assert!(
        problem.starts_with(&format!("cannot connect to {at}: "))
            && problem.contains("password missing: write `postgres://user:password@host`"),
        "{problem}"
    );
    assert_eq!(
        refused(&format!("postgres://postgres@{at}/shop")).await,
        format!(
            "cannot connect to {at}: database \"shop\" does not exist: create it, or correct its name in the URL"
        )
    );
}

#[tokio::test]
async fn an_address_without_postgresql_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = free.local_addr().expect("an address");
    drop(free);
    assert_eq!(
        refused(&format!("postgres://shop@{at}/shop")).await,
        format!(
            "cannot connect to {at}: error connecting to server: Connection refused (os error 111): expected PostgreSQL at \
             this address; check the host and the port"
        )
    );

    let redis = RedisServer::start().await;
    // The system accepts its connections. Nothing reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = silent.local_addr().map(|address| (address.port(), silent));
    let (silent, _socket) = silent.expect("an address");
    for port in [redis.port(), silent] {
        for mode in ["disable", "prefer"] {
            let url =
                format!("postgres://shop@127.0.0.1:{port}/shop?connect_timeout=1&sslmode={mode}");
            assert_eq!(
                refused(&url).await,
                format!(
                    "cannot connect to 127.0.0.1:{port}: no response within 1s: expected PostgreSQL at this address; check \
                     the host and the port, or raise `connect_timeout`"
                )
            );
        }
    }
}

#[tokio::test]
async fn a_listening_address_that_never_responds_delays_no_task() {
    let server = Postgres::shared().await;
    // The system accepts its connections. Nothing reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = silent.local_addr().expect("an address");
    let listen = format!("postgres://shop@{at}/shop?connect_timeout=1");
    let options = options(&server.new_schema())
        .listen(&listen)
        .expect("a URL");
    let broker = PostgresBroker::connect(options).await.expect("a broker");
    let queues = ["q".into()];
    let listening = Store::signals(&broker, &queues);
    let listening = tokio::time::timeout(common::LIMIT, listening).await;
    let mut signals = listening.expect("it gives up").expect("signals");
    // This process still hears of its own tasks.
    enqueue(&broker, "task").await.expect("accepted");
    let heard = tokio::time::timeout(common::LIMIT, signals.next()).await;
    let expected = Some(Signal::Pending("q".into()));
    assert_eq!(heard.expect("a signal"), expected);
}

#[tokio::test]
async fn a_server_that_responds_in_another_protocol_is_named() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = server.local_addr().expect("an address");
    let responding = tokio::spawn(async move {
        loop {
            let (mut socket, _) = server.accept().await.expect("a connection");
            let response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let _ = socket.write_all(response).await;
        }
    });
    let url = format!("postgres://shop@{at}/shop?connect_timeout=1");
    let problem = refused(&url).await;
    let advice = "expected PostgreSQL at this address; check the host and the port";
    assert!(
        problem.starts_with(&format!("cannot connect to {at}: ")) && problem.contains(advice),
        "{problem}"
    );
    responding.abort();
}

#[tokio::test]
async fn a_version_that_cannot_be_read_in_time_is_an_error() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    migrate(&options(&url)).await.expect("migrated");
    let mut client = Postgres::connect(&url).await;
    let transaction = client.transaction().await.expect("begun");
    let lock = "lock table meta in access exclusive mode";
    transaction.batch_execute(lock).await.expect("locked");
    assert_eq!(
        refused(&format!("{url}&response_timeout=300ms")).await,
        format!(
            "cannot connect to 127.0.0.1:{}: no response within 300ms: check the server, or raise `response_timeout`",
            server.port()
        )
    );
    transaction.rollback().await.expect("ended");
    PostgresBroker::connect(options(&url))
        .await
        .expect("a broker");
}

#[test]
fn mistakes_in_a_url_are_named_without_its_password() {
    let main = "postgres://shop:secret@db/shop?";
    for (parameters, expected) in [
        (
            "pool_size=0",
            "parameter `pool_size` is `0`: expected a number from 1",
        ),
        (
            "pool_size=many",
            "parameter `pool_size` is `many`: expected a number from 1",
        ),
        (
            "migrate=no",
            "parameter `migrate` is `no`: expected `true` or `false`",
        ),
        (
            "schema=a%22b",
            "parameter `schema` is `a\"b`: expected a name of up to 63 bytes without quotes, such as `asynqueue`",
        ),
        (
            "schema=",
            "parameter `schema` is ``: expected a name of up to 63 bytes without quotes, such as `asynqueue`",
        ),
        (
            "sslmode=on",
            "parameter `sslmode` is `on`: expected `disable`, `prefer`, `require`, `verify-ca` or `verify-full`",
        ),
        (
            "sslcert=/a.pem",
            "parameter `sslcert` is `/a.pem`: expected both `sslcert` and `sslkey`",
        ),
        (
            "listen=postgres%3A%2F%2Fshop%3Asecret@db%2Fshop%3Fschema%3Djobs",
            "parameter `listen` is `…?schema=…`: expected a URL without `schema`, which belongs into the main URL",
        ),
        (
            "listen=redis%3A%2F%2Fdb",
            "this is not a PostgreSQL URL: write `postgres://user:password@host:5432/database`; it starts with `redis`",
        ),
    ] {
        let error = PostgresOptions::new(&format!("{main}{parameters}"));
        assert_eq!(error.expect_err("a mistake").to_string(), expected);
    }
    let error =
        PostgresOptions::new("postgres://shop:sec%ret@db:port/shop").expect_err("a mistake");
    let error = error.to_string();
    assert!(
        error.starts_with("the PostgreSQL URL is invalid: ") && !error.contains("sec"),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_that_finds_its_tables_does_not_wait_for_a_migration() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    migrate(&options(&url)).await.expect("migrated");
    let mut client = Postgres::connect(&url).await;
    let transaction = client.transaction().await.expect("begun");
    let lock = "select pg_advisory_xact_lock(1634956657, hashtext(current_schema()))";
    transaction.batch_execute(lock).await.expect("locked");
    let connecting = PostgresBroker::connect(options(&url));
    let connected = tokio::time::timeout(Duration::from_secs(30), connecting).await;
    connected.expect("it does not wait").expect("a broker");
    transaction.rollback().await.expect("ended");
}
