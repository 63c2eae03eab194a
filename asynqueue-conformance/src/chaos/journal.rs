//! What a process has done, on disk before anything follows from it.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;

/// A file of lines: a time in microseconds, a word for the event, and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Sender<Line>);

struct Line {
    text: String,
    /// Notified once the line is on disk.
    kept: Option<oneshot::Sender<()>>,
}

/// Microseconds since 1970. All processes of a run share the clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_micros() as u64
}

impl Journal {
    /// Creates a journal and the thread that writes it. All waiting lines are written together.
    pub(crate) fn create(dir: &Path, name: &str) -> Self {
        let file = File::create(dir.join(format!("{name}.journal"))).expect("a journal");
        let (lines, waiting) = channel();
        std::thread::spawn(move || write(file, &waiting));
        Self(lines)
    }

    /// Writes a line, and waits until it is on disk.
    pub(crate) async fn note(&self, what: impl std::fmt::Display) {
        let (kept, wait) = oneshot::channel();
        self.send(what, Some(kept));
        wait.await.expect("the journal is written");
    }

    /// Writes a line that nothing depends on.
    pub(crate) fn note_later(&self, what: impl std::fmt::Display) {
        self.send(what, None);
    }

    fn send(&self, what: impl std::fmt::Display, kept: Option<oneshot::Sender<()>>) {
        let text = format!("{} {what}\n", now());
        self.0
            .send(Line { text, kept })
            .expect("the journal is written");
    }
}

fn write(mut file: File, waiting: &Receiver<Line>) {
    while let Ok(first) = waiting.recv() {
        let (mut text, mut kept) = (String::new(), Vec::new());
        for line in std::iter::once(first).chain(waiting.try_iter()) {
            text += &line.text;
            kept.extend(line.kept);
        }
        file.write_all(text.as_bytes()).expect("written");
        file.sync_data().expect("on disk");
        for kept in kept {
            // The caller may have been dropped.
            let _ = kept.send(());
        }
    }
}

/// A line that was read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) word: String,
    pub(crate) rest: Vec<String>,
}

impl Entry {
    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        Some(Self {
            at: parts.next()?.parse().ok()?,
            word: parts.next()?.to_owned(),
            rest: parts.map(str::to_owned).collect(),
        })
    }

    /// An argument by index, empty if there is none.
    pub(crate) fn part(&self, place: usize) -> &str {
        self.rest.get(place).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, place: usize) -> u64 {
        self.part(place).parse().unwrap_or_default()
    }
}

/// Reads all journals of a directory, by name. The last line of a killed process may be incomplete.
pub(crate) fn read_all(dir: &Path) -> Vec<(String, Vec<Entry>)> {
    let mut journals = Vec::new();
    for file in std::fs::read_dir(dir).expect("the journals") {
        let path = file.expect("a journal").path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".journal"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).expect("a journal");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        journals.push((
            name.to_owned(),
            whole.lines().filter_map(Entry::read).collect(),
        ));
    }
    journals.sort_by(|a, b| a.0.cmp(&b.0));
    journals
}
