//! A chromedriver, which starts browsers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::process::{Process, free_port};

/// A separate `chromedriver`. Its browsers end with it.
#[derive(Debug)]
pub struct Chromedriver {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Chromedriver {
    /// Starts a chromedriver.
    pub async fn start() -> Self {
        for program in ["chromedriver", "chromium"] {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let is_there = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
            assert!(
                is_there,
                "`{program}` is missing: run scripts/test once to install it"
            );
        }
        loop {
            let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
            let process = start_in(dir.path(), port);
            let mut driver = Self { process, port, dir };
            if driver.is_ready().await {
                return driver;
            }
        }
    }

    /// Waits until it responds. Returns false if it has ended because another process has its port.
    async fn is_ready(&mut self) -> bool {
        let started = Instant::now();
        let status = format!("{}/status", self.url());
        while !reqwest::get(&status)
            .await
            .is_ok_and(|answer| answer.status() == 200)
        {
            if self.process.has_ended() {
                return false;
            }
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "chromedriver did not start in time: {}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn start_in(dir: &Path, port: u16) -> Process {
    Process::start("chromedriver", dir, &[format!("--port={port}")])
}

impl Drop for Chromedriver {
    /// Requests it to end first: a killed chromedriver leaves its browsers behind.
    fn drop(&mut self) {
        let asked = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(
                b"GET /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            stream.read_to_end(&mut Vec::new())
        });
        let started = Instant::now();
        while asked.is_ok()
            && !self.process.has_ended()
            && started.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
