//! A proxy that holds a request for later delivery, or loses one response.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What happens to the next script call that contains this word.
#[derive(Debug)]
enum Next {
    /// The request is held, and its connection is closed.
    Hold(&'static str),
    /// The request is delivered, and the connection is closed instead of returning the response.
    LoseAnswer(&'static str),
}

impl Next {
    fn is_for(&self, request: &[u8]) -> bool {
        let (Self::Hold(word) | Self::LoseAnswer(word)) = self;
        let has = |word: &str| {
            request
                .windows(word.len())
                .any(|part| part == word.as_bytes())
        };
        has("EVAL") && (word.is_empty() || has(word))
    }
}

#[derive(Debug, Default)]
struct State {
    next: Option<Next>,
    /// Held requests.
    held: Vec<Vec<u8>>,
    /// By how many seconds responses to `TIME` are behind.
    behind: u64,
}

/// A TCP proxy in front of a server, for tests of repeated requests.
#[derive(Debug)]
pub struct LateProxy {
    port: u16,
    to: u16,
    state: Arc<Mutex<State>>,
}

impl LateProxy {
    /// Starts a proxy in front of a local port.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        pass(client, server, &state).await;
                    }
                });
            }
        });
        Self { port, to, state }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Holds the next script call that contains this word, and closes its connection, so that the client sends it
    /// again.
    pub fn hold_next(&self, word: &'static str) {
        self.state.lock().unwrap().next = Some(Next::Hold(word));
    }

    /// Delivers the next script call that contains this word, and closes its connection instead of returning the
    /// response.
    pub fn lose_next_answer(&self, word: &'static str) {
        self.state.lock().unwrap().next = Some(Next::LoseAnswer(word));
    }

    /// Makes responses to `TIME` be behind from now on.
    pub fn put_clock_back(&self, seconds: u64) {
        self.state.lock().unwrap().behind = seconds;
    }

    /// The held requests.
    pub fn held(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().held.clone()
    }

    /// Delivers the held requests on a separate connection. Returns the server's responses.
    pub async fn deliver(&self) -> String {
        let requests = std::mem::take(&mut self.state.lock().unwrap().held);
        assert!(!requests.is_empty(), "no request was held");
        let mut server = TcpStream::connect(("127.0.0.1", self.to)).await.unwrap();
        let mut answers = String::new();
        for request in requests {
            server.write_all(&request).await.unwrap();
            let mut buffer = vec![0; 64 * 1024];
            let read = server.read(&mut buffer).await.unwrap();
            answers.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        answers
    }
}

async fn pass(client: TcpStream, server: TcpStream, state: &Mutex<State>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let loses = Mutex::new(false);
    tokio::select! {
        () = requests(from_client, to_server, state, &loses) => {}
        () = answers(from_server, to_client, state, &loses) => {}
    }
}

/// Forwards requests until one is held.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &Mutex<State>,
    loses: &Mutex<bool>,
) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let request = &buffer[..read];
        {
            let mut state = state.lock().unwrap();
            match state.next.take_if(|next| next.is_for(request)) {
                None => {}
                Some(Next::Hold(_)) => {
                    state.held.push(request.to_vec());
                    return;
                }
                Some(Next::LoseAnswer(_)) => *loses.lock().unwrap() = true,
            }
        }
        if to.write_all(request).await.is_err() {
            return;
        }
    }
}

/// Forwards responses until one is lost.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &Mutex<State>,
    loses: &Mutex<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if *loses.lock().unwrap() {
            return;
        }
        let behind = state.lock().unwrap().behind;
        put_back(&mut buffer[..read], behind);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Changes a response to `TIME`: two strings, of which the first has the ten digits of the seconds since 1970.
fn put_back(answer: &mut [u8], seconds: u64) {
    const HEAD: &[u8] = b"*2\r\n$10\r\n";
    let is_time = seconds > 0 && answer.starts_with(HEAD);
    if let Some(digits) = answer
        .get_mut(HEAD.len()..HEAD.len() + 10)
        .filter(|_| is_time)
    {
        let now: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
        digits.copy_from_slice((now - seconds).to_string().as_bytes());
    }
}
