//! The normalized form of an error message: the part that failures of one cause have in common.
//!
//! | in the message | in the normalized form |
//! |---|---|
//! | numbers, also with signs, dots, colons and units, and lists of them | `#` |
//! | UUIDs, ULIDs, hexadecimal numbers and other words that mix letters and digits | `#` |
//! | `req_8fA2kd`, `worker-7`, `utf8` | `req_#`, `worker-#`, `utf#` |
//! | quoted text | `"…"` |
//! | the text of a field such as `message` or `detail`, in JSON or a struct | normalized itself |
//! | URLs, addresses of mail, paths | `<url>`, `<email>`, `<path>` |
//! | a status after `HTTP`, `status` or `code`, or at the start; an error number of the system | as it is |
//! | a quoted name of a field, column or error code, such as `` missing field `amount` `` | as it is |
//!
//! It takes time in proportion to the length, whatever the message contains.

use super::parts::{
    LONGEST_NAME, bracketed_address, closing, collapsed, ends_location, is_hex_id, is_name,
    is_unspaced, location, shortened, source_file, terminal_sequence, up_to, without_uuid,
    word_length,
};
use crate::task::Failure;

/// The maximum length of the normalized form in bytes. The message itself is read further, because the ids of two
/// messages of one cause differ in length.
const MAX: usize = 512;

/// The nouns whose quoted name is a part of the cause.
const NAMING: [&str; 19] = [
    "argument",
    "attribute",
    "code",
    "column",
    "constraint",
    "error",
    "field",
    "function",
    "index",
    "key",
    "kind",
    "method",
    "parameter",
    "property",
    "reason",
    "relation",
    "status",
    "table",
    "type",
];

/// The names of fields whose text is a message itself, as in `{"message":"insufficient funds"}`.
const SAYING: [&str; 10] = [
    "description",
    "detail",
    "details",
    "error",
    "error_description",
    "error_message",
    "message",
    "msg",
    "reason",
    "title",
];

/// The words that a status follows.
const BEFORE_STATUS: [&str; 10] = [
    "http",
    "https",
    "status",
    "code",
    "status_code",
    "statuscode",
    "http_status",
    "response",
    "responded",
    "returned",
];

/// How often a part without spaces is searched for a URL or a path: at its start, and after `key=`.
const TRIES: u8 = 3;

/// The message without what differs between failures of one cause, in at most 512 bytes.
///
/// ```
/// use asynqueue_core::failure::normalized;
///
/// let message = "order 1000123: POST https://bank.example/charges failed: 400 (request req_8fA2)";
/// assert_eq!(normalized(message), "order #: POST <url> failed: # (request req_#)");
/// ```
pub fn normalized(message: &str) -> String {
    // A message of a task is never longer, and one of a caller is as if it were stored.
    let read = up_to(message, Failure::MAX_MESSAGE);
    let form = Scan::new(read, read.len() < message.len()).read();
    up_to(&form, MAX).trim_end().to_owned()
}

/// A message that is read from left to right.
struct Scan<'a> {
    rest: &'a str,
    out: String,
    /// The last two words, in lower case, to recognise what a number or a quotation means.
    words: [String; 2],
    /// Whether the text ends before the message does.
    is_cut: bool,
    /// The quotation marks that are not closed in the rest.
    unclosed: Vec<char>,
    /// The character before the rest.
    before: Option<char>,
    /// How often this part without spaces was searched for a URL or a path.
    tries: u8,
    /// Whether this is the message in a field of another one. Such messages are not searched for further ones, which
    /// would take time in proportion to their depth.
    is_field: bool,
}

impl<'a> Scan<'a> {
    fn new(rest: &'a str, is_cut: bool) -> Self {
        Self {
            rest,
            out: String::with_capacity(rest.len().min(MAX) + 16),
            words: Default::default(),
            is_cut,
            unclosed: Vec::new(),
            before: None,
            tries: 0,
            is_field: false,
        }
    }

    /// Reads to the end, or until the normalized form is long enough.
    fn read(mut self) -> String {
        while self.out.len() < MAX && !self.rest.is_empty() {
            self.step();
        }
        self.out
    }

    /// Reads one part: a quotation, a URL, a path, a word or a character.
    fn step(&mut self) {
        let Some(first) = self.rest.chars().next() else {
            return;
        };
        if let Some(length) = terminal_sequence(self.rest) {
            self.skip(length);
            self.before = None;
            return;
        }
        if first.is_whitespace() || first.is_control() {
            if !self.out.is_empty() && !self.out.ends_with(' ') {
                self.out.push(' ');
            }
            self.skip(first.len_utf8());
            self.tries = 0;
            return;
        }
        let starts = |before: char| !before.is_alphanumeric() || is_unspaced(before);
        if self.before.is_none_or(starts) && (self.quotation(first) || self.location()) {
            return;
        }
        match word_length(self.rest) {
            // An id that somebody has shortened.
            0 if first == '…' && self.out.ends_with('#') => self.skip(first.len_utf8()),
            0 => {
                self.out.push(first);
                self.skip(first.len_utf8());
            }
            length => self.word(length),
        }
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.before = skipped.chars().next_back().or(self.before);
        self.rest = rest;
    }

    /// Reads a quotation. Returns whether there was one.
    fn quotation(&mut self, first: char) -> bool {
        let close = match first {
            '"' | '\'' | '`' => first,
            '“' => '”',
            '‘' => '’',
            '«' => '»',
            _ => return false,
        };
        if self.unclosed.contains(&close) {
            return false;
        }
        let open = first.len_utf8();
        let Some(length) = closing(&self.rest[open..], close) else {
            // Another one further on is not closed either.
            self.unclosed.push(close);
            if self.is_cut {
                self.out.push_str("\"…");
                self.rest = "";
            }
            return self.is_cut;
        };
        let (quoted, all) = (
            &self.rest[open..open + length],
            open + length + close.len_utf8(),
        );
        let is_key = first == '"'
            && self.rest[all..].starts_with(':')
            && self.out.trim_end().ends_with(['{', ',']);
        let names = NAMING.contains(&self.words[1].as_str());
        if (is_key || names) && is_name(quoted) {
            self.out.push_str(&self.rest[..all]);
            self.remember(quoted);
        } else if self.is_message() {
            let mut field = Scan::new(quoted, false);
            field.is_field = true;
            self.out.push('"');
            self.out.push_str(&field.read());
            self.out.push('"');
            self.remember("");
        } else {
            self.out.push_str("\"…\"");
            self.remember("");
        }
        self.skip(all);
        true
    }

    /// Whether a quotation is the message in a field, in JSON or in the debug form of a struct.
    fn is_message(&self) -> bool {
        !self.is_field
            && SAYING.contains(&self.words[1].as_str())
            && self.out.trim_end().ends_with(':')
            && self.out.contains('{')
    }

    /// Reads a URL, an address of mail or a path. Returns whether there was one.
    fn location(&mut self) -> bool {
        // Otherwise the time would grow with the square of the length.
        if self.tries >= TRIES {
            return false;
        }
        self.tries += 1;
        if let Some(length) = bracketed_address(self.rest) {
            self.number_or_word("#");
            self.skip(length);
            return true;
        }
        let length = self.rest.find(ends_location).unwrap_or(self.rest.len());
        let text = self.rest[..length].trim_end_matches(['.', ',', ':', ';', '!', '?']);
        let Some(kind) = location(text) else {
            return false;
        };
        if kind == "#" {
            self.number_or_word(kind);
            self.skip(text.len());
            return true;
        }
        self.out.push_str(kind);
        if kind == "<path>"
            && let Some(source) = source_file(text)
        {
            // The file of a panic is a part of its cause, its line changes with every release.
            self.out.push('/');
            self.out.push_str(source);
        }
        self.remember("");
        self.skip(text.len());
        true
    }

    fn word(&mut self, length: usize) {
        let word = &self.rest[..length];
        let (before, uuid) = without_uuid(word);
        let has_digits = word.bytes().any(|byte| byte.is_ascii_digit());
        if !has_digits && uuid.is_empty() && !is_hex_id(word) {
            self.out.push_str(word);
            self.remember(word);
        } else if self.is_status(word) {
            self.out.push_str(word);
            self.remember("");
        } else {
            let mut parts = String::new();
            for part in before.split_inclusive(['_', '-']) {
                let (name, sign) = match part.strip_suffix(['_', '-']) {
                    Some(name) => (name, &part[name.len()..]),
                    None => (part, ""),
                };
                parts.push_str(&shortened(name));
                parts.push_str(sign);
            }
            parts.push_str(uuid);
            self.number_or_word(&collapsed(&parts));
        }
        self.skip(length);
    }

    /// Writes a word. A number that continues another, as in `10.0.0.7:443` or `[1, 2]`, is a part of it.
    fn number_or_word(&mut self, word: &str) {
        if word == "#" {
            let before = self.out.trim_end_matches(' ');
            let signs = before.trim_end_matches(['.', ',', ':', '-', '+', '/']);
            let is_joined = signs.len() < before.len() && before.len() - signs.len() <= 2;
            if is_joined && signs.ends_with('#') {
                self.out.truncate(signs.len());
                return;
            }
            if before.len() == self.out.len() && before.ends_with(['-', '+']) {
                // A sign.
                let sign_starts = before[..before.len() - 1]
                    .chars()
                    .next_back()
                    .is_none_or(|char| !char.is_alphanumeric());
                if sign_starts {
                    self.out.pop();
                }
            }
        }
        // After `HTTP/1.1`, a status follows.
        if word != "#" || !matches!(self.words[1].as_str(), "http" | "https") {
            self.remember(word);
        }
        self.out.push_str(word);
    }

    /// Whether a number is a part of the cause: a status, or the number of an error of the system.
    fn is_status(&self, word: &str) -> bool {
        if !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        let [second_last, last] = self.words.each_ref().map(String::as_str);
        let is_start = self
            .out
            .chars()
            .all(|char| !char.is_alphanumeric() && char != '#');
        let follows = BEFORE_STATUS.contains(&last) || self.starts_reason(word.len());
        let of_system = last == "errno" || (second_last, last) == ("os", "error");
        let is_status = word.len() == 3 && (b'1'..=b'5').contains(&word.as_bytes()[0]);
        (is_status && (is_start || follows)) || (of_system && word.len() <= 5)
    }

    /// Whether a number of this length starts a cause, as in `charge failed: 503 Service Unavailable`.
    fn starts_reason(&self, length: usize) -> bool {
        let mut next = self.rest[length..].chars();
        self.out.ends_with(": ")
            && next.next() == Some(' ')
            && next.next().is_some_and(char::is_uppercase)
    }

    fn remember(&mut self, word: &str) {
        let word = word.trim_matches(|char: char| !char.is_alphanumeric());
        self.words.swap(0, 1);
        self.words[1].clear();
        self.words[1].extend(word.chars().take(LONGEST_NAME).flat_map(char::to_lowercase));
    }
}
