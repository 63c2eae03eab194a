//! What the proxy does to connections, seen from both ends.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use asynqueue_test_servers::{Fault, Proxy, RedisServer, eventually};
use redis::{Client, aio::MultiplexedConnection, cmd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

struct Behind {
    server: RedisServer,
    proxy: Proxy,
    direct: MultiplexedConnection,
}

impl Behind {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let proxy = Proxy::start(server.port()).await;
        let direct = server.connection().await;
        Self {
            server,
            proxy,
            direct,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.proxy.port()))
            .await
            .unwrap()
    }

    /// The server's counter.
    async fn count(&self) -> u64 {
        let count: Option<u64> = cmd("GET")
            .arg("n")
            .query_async(&mut self.direct.clone())
            .await
            .unwrap();
        count.unwrap_or_default()
    }

    async fn counts(&self, count: u64) {
        eventually("the server has counted", async || {
            self.count().await == count
        })
        .await;
    }
}

/// Sends a request that counts.
async fn add(connection: &mut TcpStream, by: u64) {
    let request = format!("INCRBY n {by}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
}

async fn answer(connection: &mut TcpStream) -> String {
    let mut buffer = [0; 64];
    let read = connection.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[tokio::test]
async fn held_requests_are_delivered_in_order_once_they_are_released() {
    let behind = Behind::start().await;
    let mut connection = behind.connect().await;
    add(&mut connection, 1).await;
    assert_eq!(answer(&mut connection).await, ":1\r\n");
    behind.proxy.set(Fault::Hold);
    add(&mut connection, 2).await;
    add(&mut connection, 4).await;
    // A held request would be counted before this response.
    let client = Client::open(behind.server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(behind.count().await, 1);
    behind.proxy.set(Fault::None);
    behind.counts(7).await;
    let mut answers = String::new();
    while !answers.ends_with(":7\r\n") {
        answers += &answer(&mut connection).await;
    }
    assert_eq!(answers, ":3\r\n:7\r\n");
}

#[tokio::test]
async fn a_late_request_arrives_after_its_repetition_and_its_response_is_dropped() {
    let behind = Behind::start().await;
    let mut first = behind.connect().await;
    add(&mut first, 1).await;
    assert_eq!(answer(&mut first).await, ":1\r\n");
    behind.proxy.set(Fault::Late(Duration::from_millis(300)));
    add(&mut first, 100).await;
    // The client gives up, and sends it again on another connection, which is not late.
    let mut second = behind.connect().await;
    add(&mut second, 10).await;
    assert_eq!(answer(&mut second).await, ":11\r\n");
    drop(first);
    behind.counts(111).await;
    assert_eq!(behind.proxy.late(), 1);
    behind.proxy.set(Fault::None);
    add(&mut second, 1_000).await;
    assert_eq!(answer(&mut second).await, ":1111\r\n");
}

#[tokio::test]
async fn a_late_connection_stays_late_after_the_fault_and_looks_open_to_the_client() {
    let behind = Behind::start().await;
    let mut connection = behind.connect().await;
    add(&mut connection, 1).await;
    assert_eq!(answer(&mut connection).await, ":1\r\n");
    behind.proxy.set(Fault::Late(Duration::from_millis(50)));
    add(&mut connection, 2).await;
    behind.counts(3).await;
    behind.proxy.set(Fault::None);
    add(&mut connection, 4).await;
    behind.counts(7).await;
    assert_eq!(behind.proxy.late(), 2);
    let silent = tokio::time::timeout(Duration::from_millis(100), answer(&mut connection));
    silent.await.expect_err("no response, and no end");
}

#[tokio::test]
async fn each_response_is_cut_in_the_middle() {
    let behind = Behind::start().await;
    let mut connection = behind.connect().await;
    behind.proxy.set(Fault::CutReplies);
    add(&mut connection, 1).await;
    let mut rest = Vec::new();
    let read = connection.read_to_end(&mut rest).await;
    assert!(read.is_err() || rest == b":1", "{rest:?}");
    assert_eq!((behind.count().await, behind.proxy.cuts()), (1, 1));
}

#[tokio::test]
async fn a_seed_determines_the_fault_of_each_connection() {
    let behind = Behind::start().await;
    let mut answered = Vec::new();
    for _ in 0..2 {
        let proxy = Proxy::start(behind.server.port()).await;
        proxy.set_each(7, &[Fault::None, Fault::CutReplies]);
        let mut whole = Vec::new();
        for _ in 0..16 {
            let to = ("127.0.0.1", proxy.port());
            let mut connection = TcpStream::connect(to).await.unwrap();
            connection.write_all(b"PING\r\n").await.unwrap();
            let mut buffer = Vec::new();
            while !buffer.ends_with(b"\r\n") {
                match connection.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    _ => break,
                }
            }
            whole.push(buffer == b"+PONG\r\n");
        }
        answered.push(whole);
    }
    assert_eq!(answered[0], answered[1]);
    assert!(answered[0].contains(&true) && answered[0].contains(&false));
}

#[tokio::test]
async fn a_connection_that_has_lost_a_response_receives_no_later_one() {
    let behind = Behind::start().await;
    let mut connection = behind.connect().await;
    add(&mut connection, 1).await;
    assert_eq!(answer(&mut connection).await, ":1\r\n");
    behind.proxy.set(Fault::SwallowReplies);
    add(&mut connection, 2).await;
    behind.counts(3).await;
    behind.proxy.set(Fault::None);
    add(&mut connection, 4).await;
    behind.counts(7).await;
    let silent = tokio::time::timeout(Duration::from_millis(100), answer(&mut connection));
    silent.await.expect_err("no response");
}
