//! PostgreSQL in a run: a proxy in front of each process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_conformance::chaos::{Dice, Fault, Scene, Stage};
use asynqueue_core::broker::SharedBroker;
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::Proxy;
use tokio::sync::{Mutex, RwLock};

use super::{
    left::left,
    links::{self, Link},
    programs::{self, open},
    server::{self, Server},
    tables::problems,
};

/// PostgreSQL, and everything in front of it.
pub(crate) struct PostgresStage {
    /// Locked during a fault of the server.
    server: RwLock<Server>,
    is_pooled: bool,
    /// The URL without pooler and proxy.
    url: String,
    links: Mutex<Vec<Arc<Link>>>,
    /// Locked while another program uses the database.
    program: Mutex<()>,
    /// How many connections were terminated.
    terminated: AtomicUsize,
}

impl PostgresStage {
    pub(crate) async fn start(is_pooled: bool) -> Self {
        let server = Server::start(is_pooled).await;
        server
            .postgres
            .execute("create table probe (n int); insert into probe values (0)")
            .await;
        let stage = Self {
            url: server.postgres.url(),
            is_pooled,
            server: RwLock::new(server),
            links: Mutex::default(),
            program: Mutex::default(),
            terminated: AtomicUsize::new(0),
        };
        // Creates the tables.
        stage.broker().await;
        stage
    }

    /// The URL of a port, through a new proxy.
    async fn through_proxy(&self, place: &str, port: u16) -> String {
        let proxy = Proxy::start(port).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
        let link = Link::new(place, Arc::new(proxy));
        self.links.lock().await.push(Arc::new(link));
        url
    }

    async fn break_link(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        let link = dice.pick(&self.links.lock().await).cloned();
        let link = link.expect("links");
        // A target that already has a fault is skipped.
        if let Ok(_broken) = link.is_broken.try_lock() {
            let broken = links::break_link(fault, &link.proxy, dice);
            scene.during(fault, &link.whom, broken).await;
        }
    }

    async fn break_server(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        let Ok(mut server) = self.server.try_write() else {
            return;
        };
        let broken = server.suffer(fault, dice);
        let terminated = scene.during(fault, "all", broken).await;
        self.terminated.fetch_add(terminated, SeqCst);
        let problems = problems(&server.postgres.client().await).await;
        for problem in problems.expect("the tables are checked") {
            scene.problem(&problem).await;
        }
    }

    async fn run_program(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        if let Ok(_running) = self.program.try_lock() {
            let run = programs::run(fault, &self.url, dice);
            // Programs fail too.
            let _ = scene.during(fault, "all", run).await;
        }
    }
}

#[async_trait]
impl Stage for PostgresStage {
    fn title(&self) -> String {
        let title = "one PostgreSQL with its default settings";
        match self.is_pooled {
            true => format!("{title}, behind PgBouncer"),
            false => title.to_owned(),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = [&links::FAULTS[..], &server::FAULTS, &programs::FAULTS].concat();
        faults.extend(self.is_pooled.then_some(server::POOLER));
        faults
    }

    async fn url(&self, place: &str) -> String {
        let (calls, server) = {
            let server = self.server.read().await;
            (server.port(), server.postgres.port())
        };
        let url = self.through_proxy(place, calls).await;
        let url = format!("{url}?connect_timeout=1");
        match self.is_pooled {
            true => format!("{url}&listen={}", self.through_proxy(place, server).await),
            false => url,
        }
    }

    async fn broker(&self) -> SharedBroker {
        let options = PostgresOptions::new(&self.url).expect("a URL");
        let options = options.retry_for(Duration::from_secs(20));
        let broker = PostgresBroker::connect(options).await;
        broker.expect("a connection").into()
    }

    async fn inject(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        if links::FAULTS.contains(&fault) {
            self.break_link(fault, scene, dice).await;
        } else if programs::FAULTS.contains(&fault) {
            self.run_program(fault, scene, dice).await;
        } else {
            self.break_server(fault, scene, dice).await;
        }
    }

    async fn respond(&self) {
        // It opens a connection and waits for the disk, so it takes longer than a call of a client. An error is a
        // response too.
        if let Ok(client) = open(&self.url).await {
            let _ = client.batch_execute("update probe set n = n + 1").await;
        }
    }

    async fn left(&self) -> Vec<String> {
        left(&self.server.read().await.postgres).await
    }

    fn figures(&self) -> Vec<(String, String)> {
        let links = self.links.try_lock().expect("no link is added");
        let count = |of: fn(&Proxy) -> u64| links.iter().map(|link| of(&link.proxy)).sum::<u64>();
        let (cuts, late) = (count(Proxy::cuts), count(Proxy::late));
        let terminated = self.terminated.load(SeqCst);
        vec![
            (
                "responses cut in the middle, requests delivered late".to_owned(),
                format!("{cuts}, {late}"),
            ),
            ("connections terminated".to_owned(), terminated.to_string()),
        ]
    }
}
