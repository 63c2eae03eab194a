//! The other processes that use the file. Each one that listens has a socket in a folder beside the database.
//!
//! Without sockets, on systems that have none and in folders that cannot have any, processes find by polling what others
//! have done.

#[cfg(unix)]
pub(super) use self::unix::Peers;

#[cfg(not(unix))]
pub(super) use self::none::Peers;

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        hash::Hasher,
        io,
        os::unix::{ffi::OsStrExt, net::UnixDatagram},
        path::{Path, PathBuf},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        thread,
        time::{Duration, SystemTime},
    };

    use asynqueue_core::broker::kit::Note;
    use parking_lot::Mutex;
    use siphasher::sip::SipHasher13;

    /// The extension of sockets.
    const SOCKET: &str = "wake";

    /// A path of a socket has at most about 100 bytes.
    const MAX_PATH: usize = 96;

    /// A longer note is not sent: what it announces is found by polling.
    const MAX_NOTE: usize = 4_096;

    /// Two changes of a folder within this time may have the same time.
    const COARSE: Duration = Duration::from_millis(20);

    pub(in crate::link) struct Peers {
        folder: PathBuf,
        sender: Option<UnixDatagram>,
        known: Mutex<Known>,
        own: Mutex<Own>,
    }

    #[derive(Default)]
    struct Known {
        /// When the folder last changed, and the sockets that it had then.
        as_of: Option<SystemTime>,
        sockets: Vec<PathBuf>,
    }

    type Hear = Arc<dyn Fn(Note) + Send + Sync>;

    struct Own {
        hear: Hear,
        state: Listening,
    }

    enum Listening {
        Not,
        On(Listener),
        /// Listening failed, or has ended.
        Over,
    }

    struct Listener {
        path: PathBuf,
        /// Whether its thread is to end.
        is_over: Arc<AtomicBool>,
    }

    impl Peers {
        pub(in crate::link) fn new(
            folder: PathBuf,
            hear: impl Fn(Note) + Send + Sync + 'static,
        ) -> Self {
            let sender = UnixDatagram::unbound().and_then(|socket| {
                // A peer that does not read finds its tasks by polling.
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            Self {
                folder: socket_folder(folder),
                sender: sender.ok(),
                known: Mutex::default(),
                own: Mutex::new(Own {
                    hear: Arc::new(hear),
                    state: Listening::Not,
                }),
            }
        }

        /// Listens to other processes, if this one does not do so yet.
        pub(in crate::link) fn listen(&self) {
            let mut own = self.own.lock();
            if !matches!(own.state, Listening::Not) {
                return;
            }
            own.state = match start(&self.folder, Arc::clone(&own.hear)) {
                Ok(listener) => Listening::On(listener),
                Err(error) => {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, %error, "cannot listen to other processes; finding their tasks by polling");
                    Listening::Over
                }
            };
        }

        /// Sends notes to all other processes that listen.
        pub(in crate::link) fn send(&self, notes: &[Note]) {
            let Some(sender) = &self.sender else { return };
            let peers = self.others();
            if peers.is_empty() {
                return;
            }
            for note in notes.iter().filter_map(encode) {
                for peer in &peers {
                    match sender.send_to(&note, peer) {
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            // Its process has died.
                            let _ = fs::remove_file(peer);
                        }
                        // Full or gone: the peer finds what was announced by polling.
                        Ok(_) | Err(_) => {}
                    }
                }
            }
        }

        /// The sockets of the other processes. The folder is read only after it has changed.
        fn others(&self) -> Vec<PathBuf> {
            let changed = fs::metadata(&self.folder).and_then(|folder| folder.modified());
            let mut known = self.known.lock();
            if changed.is_err() || known.as_of != changed.as_ref().ok().copied() {
                let found = fs::read_dir(&self.folder).into_iter().flatten();
                let paths = found.filter_map(|entry| Some(entry.ok()?.path()));
                let is_socket = |path: &PathBuf| path.extension().is_some_and(|end| end == SOCKET);
                known.sockets = paths.filter(is_socket).collect();
                let age = |at: &SystemTime| at.elapsed().unwrap_or_default();
                known.as_of = changed.ok().filter(|at| age(at) > COARSE);
            }
            let own = self.own.lock();
            let is_own =
                |path: &&PathBuf| matches!(&own.state, Listening::On(own) if own.path == **path);
            known
                .sockets
                .iter()
                .filter(|path| !is_own(path))
                .cloned()
                .collect()
        }

        pub(in crate::link) fn close(&self) {
            let before = std::mem::replace(&mut self.own.lock().state, Listening::Over);
            if let Listening::On(listener) = before {
                listener.is_over.store(true, SeqCst);
                // Wakes the thread. If there is no room for another message, it is awake.
                if let Some(sender) = &self.sender {
                    let _ = sender.send_to(&[], &listener.path);
                }
                let _ = fs::remove_file(listener.path);
            }
        }
    }

    impl Drop for Peers {
        fn drop(&mut self) {
            self.close();
        }
    }

    fn encode(note: &Note) -> Option<Vec<u8>> {
        let bytes = rmp_serde::to_vec(note).ok()?;
        (bytes.len() <= MAX_NOTE).then_some(bytes)
    }

    /// Opens a socket, and a thread that reads from it.
    fn start(folder: &Path, hear: Hear) -> io::Result<Listener> {
        fs::create_dir_all(folder)?;
        let unique: u64 = asynqueue_core::task::TaskId::generate()
            .to_u128()
            .map_or(0, |number| number as u64);
        let name = format!("{}-{unique:016x}.{SOCKET}", std::process::id());
        let path = folder.join(name);
        let socket = UnixDatagram::bind(&path)?;
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let run = move || {
            let mut bytes = [0; MAX_NOTE];
            while !over.load(SeqCst) {
                match socket.recv(&mut bytes) {
                    Ok(length) => {
                        // A note of a later version is ignored.
                        if let Ok(note) = rmp_serde::from_slice(&bytes[..length]) {
                            hear(note);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot listen to other processes; finding their tasks by polling");
                        return;
                    }
                }
            }
        };
        thread::Builder::new()
            .name("asynqueue-wake".into())
            .spawn(run)?;
        Ok(Listener { path, is_over })
    }

    /// The folder, or one with a short path for a folder whose path is too long for sockets.
    fn socket_folder(folder: PathBuf) -> PathBuf {
        if folder.as_os_str().len() + 40 <= MAX_PATH {
            return folder;
        }
        // The keys never change: programs of different builds find each other.
        let mut hasher = SipHasher13::new_with_keys(0x6173_796e, 0x7175_6575);
        hasher.write(folder.as_os_str().as_bytes());
        std::env::temp_dir().join(format!("asynqueue-{:016x}", hasher.finish()))
    }
}

#[cfg(not(unix))]
mod none {
    use std::path::PathBuf;

    use asynqueue_core::broker::kit::Note;

    pub(in crate::link) struct Peers;

    impl Peers {
        pub(in crate::link) fn new(_: PathBuf, _: impl Fn(Note) + Send + Sync + 'static) -> Self {
            Self
        }

        pub(in crate::link) fn listen(&self) {}

        pub(in crate::link) fn send(&self, _: &[Note]) {}

        pub(in crate::link) fn close(&self) {}
    }
}
