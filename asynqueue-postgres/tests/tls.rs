//! Connections over TLS to a server whose certificate the system does not trust.
#![cfg(feature = "tls")]

mod common;

use asynqueue_core::broker::{Signal, Store};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::TlsPostgres;
use common::{enqueue, options, work};
use futures_util::StreamExt;

async fn refused(url: &str) -> String {
    let broker = PostgresBroker::connect(options(url)).await;
    broker.expect_err("no broker").to_string()
}

#[tokio::test]
async fn each_mode_verifies_what_it_does_in_libpq() {
    let server = TlsPostgres::start(false).await;
    let at = format!("127.0.0.1:{}", server.server().port());
    let (url, ca) = (server.bare_url(), server.file("ca.pem"));
    for parameters in [
        String::new(),
        "sslmode=prefer".into(),
        "sslmode=require".into(),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        format!("sslmode=verify-full&sslrootcert={ca}"),
    ] {
        work(&common::open(&format!("{url}?{parameters}")).await, "task").await;
    }
    let problem = refused(&format!("{url}?sslmode=disable")).await;
    assert_eq!(
        problem,
        format!(
            "cannot connect to {at}: no pg_hba.conf entry for host \"127.0.0.1\", user \"tls\", database \"postgres\", no \
             encryption: check the user and the password in the URL, and `pg_hba.conf` of the server"
        )
    );
    let untrusted = "no trusted CA has signed the certificate of the server; set `sslrootcert` to the file of its CA";
    let other = TlsPostgres::start(false).await;
    for mode in ["verify-ca", "verify-full"] {
        for ca in [None, Some(other.file("ca.pem"))] {
            let ca = ca.map_or_else(String::new, |ca| format!("&sslrootcert={ca}"));
            let problem = refused(&format!("{url}?sslmode={mode}{ca}")).await;
            let begins = format!("cannot connect to {at}: error performing TLS handshake: ");
            assert!(
                problem.starts_with(&begins) && problem.ends_with(untrusted),
                "{problem}"
            );
        }
    }
}

#[tokio::test]
async fn only_the_strictest_mode_requires_the_name_of_the_host() {
    let server = TlsPostgres::start(false).await;
    let port = server.server().port();
    let ca = server.file("ca.pem");
    let of_mode = |mode: &str| {
        format!(
            "postgres://tls@db.example:{port}/postgres?hostaddr=127.0.0.1&sslmode={mode}&sslrootcert={ca}"
        )
    };
    work(&common::open(&of_mode("verify-ca")).await, "task").await;
    let problem = refused(&of_mode("verify-full")).await;
    assert!(
        problem.contains("not valid for name \"db.example\"")
            && problem.ends_with(
                "the certificate of the server has other names; connect to one of them, or set `sslmode=verify-ca`"
            ),
        "{problem}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let server = asynqueue_test_servers::Postgres::shared().await;
    assert_eq!(
        refused(&format!("{}?sslmode=require", server.url())).await,
        format!(
            "cannot connect to 127.0.0.1:{}: error performing TLS handshake: server does not support TLS: set `ssl = on` on \
             the server, or `sslmode=disable` in the URL",
            server.port()
        )
    );
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let server = TlsPostgres::start(true).await;
    let url = server.bare_url();
    let (cert, key) = (server.file("client.pem"), server.file("client.key"));
    let broker = common::open(&format!(
        "{url}?sslmode=require&sslcert={cert}&sslkey={key}"
    ))
    .await;
    work(&broker, "task").await;
    let problem = refused(&format!("{url}?sslmode=require")).await;
    assert!(
        problem.contains("connection requires a valid client certificate"),
        "{problem}"
    );
}

#[tokio::test]
async fn the_listening_connection_has_the_tls_settings_of_its_own_url() {
    let server = TlsPostgres::start(true).await;
    // The superuser needs no TLS, as in front of a pooler beside the program. The listening user does.
    let main = format!("{}?schema=jobs&sslmode=disable", server.server().url());
    let listen = format!(
        "{}?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        server.bare_url(),
        server.file("ca.pem"),
        server.file("client.pem"),
        server.file("client.key")
    );
    let options = options(&main).listen(&listen).expect("a URL");
    let listening = PostgresBroker::connect(options).await.expect("a broker");
    let queues = ["q".into()];
    let mut signals = Store::signals(&listening, &queues).await.expect("signals");
    let other = common::open(&main).await;
    enqueue(&other, "task").await.expect("accepted");
    let heard = tokio::time::timeout(common::LIMIT, signals.next()).await;
    let expected = Some(Signal::Pending("q".into()));
    assert_eq!(heard.expect("a notification"), expected);
}
