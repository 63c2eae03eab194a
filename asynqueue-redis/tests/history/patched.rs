//! Scripts that are broken on their way to Redis: their histories have no order.

use asynqueue_test_servers::RedisServer;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use super::{judge, plan, stage::Stage};

/// A replacement in the text of a script.
#[derive(Clone, Copy)]
struct Patch {
    what: &'static str,
    from: &'static str,
    to: &'static str,
}

/// Each original occurs in a script, and each replacement fits in its place.
const PATCHES: [Patch; 5] = [
    Patch {
        what: "an outcome counts under any token",
        from: "if not ends[i] or (marks:find('x')",
        to: "if ends[i] and (marks:find('x')",
    },
    Patch {
        // Not each time: a task that stayed in a deleted queue would be read again and again.
        what: "every other millisecond, the last leased task stays pending",
        from: "for i = #waiting, taken + 1, -1 do",
        to: "for i=#waiting,taken+now%2,-1 do",
    },
    Patch {
        what: "a task overwrites another with its id",
        from: "  if taken[i] then",
        to: "  if false then",
    },
    Patch {
        what: "a task is edited regardless of its version",
        from: ":sub(1, 16) ~= ARGV[at + VERSION] then",
        to: ":sub(1, 16) == '' then",
    },
    Patch {
        what: "a repeated change takes effect again",
        from: "if tonumber(reached) < tonumber(number) then",
        to: "if reached then",
    },
];

/// Forwards connections to a server, with a patch in the requests. Returns its port.
async fn patching(to: u16, patch: Patch) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                    pass(client, server, patch).await;
                }
            });
        }
    });
    port
}

async fn pass(client: TcpStream, server: TcpStream, patch: Patch) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            replace(&mut buffer[..read], patch);
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

/// Replaces the text in place, padded with spaces, because the length of the script precedes it.
fn replace(request: &mut [u8], Patch { from, to, .. }: Patch) {
    let new = format!("{to:from$}", from = from.len());
    assert_eq!(new.len(), from.len(), "`{to}` is not longer than `{from}`");
    let found = |request: &[u8]| {
        let mut windows = request.windows(from.len());
        windows.position(|window| window == from.as_bytes())
    };
    while let Some(place) = found(request) {
        request[place..place + from.len()].copy_from_slice(new.as_bytes());
    }
}

/// The first of this many histories without an order, on a Redis that knows none of the scripts.
async fn first_violation(patch: Patch, histories: u64) -> Option<u64> {
    let server = RedisServer::start().await;
    let stage = Stage::before(patching(server.port(), patch).await).await;
    for seed in 1..=histories {
        let (_, judged) = judge(&stage, &plan(seed)).await;
        // An undecided history probably has no order either. The next one is another chance.
        if judged.is_err_and(|violation| !violation.is_undecided()) {
            return Some(seed);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flaw_of_a_script_shows_within_thirty_histories() {
    let found = PATCHES.map(async |patch| (patch.what, first_violation(patch, 30).await));
    for (what, found) in join_all(found).await {
        let history = found.unwrap_or_else(|| panic!("not detected: {what}"));
        println!("{what}: in history {history}");
    }
}
