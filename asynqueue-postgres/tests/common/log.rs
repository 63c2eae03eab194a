//! What a thread logs, for tests of it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::util::SubscriberInitExt;

/// The log of the thread that has created it, as long as it lives.
pub(crate) struct Log {
    lines: Lines,
    _guards: (Dispatch, DefaultGuard),
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn of_this_thread() -> Self {
        // With one subscriber in the process, a line that another thread reaches first is disabled for all of them.
        let unread = tracing_subscriber::fmt().with_writer(io::sink);
        let other = Dispatch::new(unread.finish());
        let lines = Lines::default();
        let writer = lines.clone();
        let read = tracing_subscriber::fmt().with_ansi(false);
        let guard = read.with_writer(move || writer.clone()).set_default();
        Self {
            lines,
            _guards: (other, guard),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().expect("lines")).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lines").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
