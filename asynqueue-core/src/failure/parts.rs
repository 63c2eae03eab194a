//! The parts of a message: words, numbers, ids, quotations and places.

/// The maximum length of the name of a field or of an error.
pub(super) const LONGEST_NAME: usize = 48;

/// The start of a text, in at most `max` bytes.
pub(super) fn up_to(text: &str, max: usize) -> &str {
    let is_end = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=max.min(text.len())).rev().find(is_end);
    &text[..end.unwrap_or_default()]
}

/// The length of the word at the start of a text: letters, digits, and `_` and `-` between them. A word that is written
/// without spaces around it ends where another script starts: `注文123が` has three.
pub(super) fn word_length(text: &str) -> usize {
    let is_unspaced = text.starts_with(is_unspaced);
    let is_part = |char: char| {
        let is_letter = char.is_alphanumeric() && self::is_unspaced(char) == is_unspaced;
        is_letter || matches!(char, '_' | '-')
    };
    let end = text.find(|char| !is_part(char)).unwrap_or(text.len());
    let word = &text[..end];
    match word.starts_with(|char: char| char.is_alphanumeric() || char == '_') {
        true => word.trim_end_matches('-').len(),
        false => 0,
    }
}

/// Whether a letter belongs to a script whose words have no spaces between them and numbers: those of Thailand, Laos,
/// Myanmar and Cambodia, of China, Japan and Korea.
pub(super) const fn is_unspaced(char: char) -> bool {
    matches!(char,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}' | '\u{3005}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// The length of a sequence that sets a colour of a terminal, if the text starts with one.
pub(super) fn terminal_sequence(text: &str) -> Option<usize> {
    const START: &str = "\u{1b}[";
    let parameters = text.strip_prefix(START)?;
    let end = parameters.find(|char: char| !matches!(char, '0'..='?'))?;
    let last = parameters[end..].chars().next()?;
    last.is_ascii_alphabetic().then_some(START.len() + end + 1)
}

/// How far it is to the end of a quotation. An apostrophe inside of a word does not end it.
pub(super) fn closing(text: &str, close: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, char) in text.char_indices() {
        if char == close && !is_escaped {
            let next = text[at + close.len_utf8()..].chars().next();
            if close != '\'' || next.is_none_or(|next| !next.is_alphanumeric()) {
                return Some(at);
            }
        }
        is_escaped = char == '\\' && !is_escaped;
    }
    None
}

/// Whether quoted text can be the name of a field or of an error.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |char: char| char.is_alphabetic() || matches!(char, '_' | '-' | '.' | ':');
    !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(is_part)
}

pub(super) fn ends_location(char: char) -> bool {
    char.is_whitespace()
        || matches!(
            char,
            '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';'
        )
}

/// The length of an address such as `[::1]` at the start of a text.
pub(super) fn bracketed_address(text: &str) -> Option<usize> {
    let (inner, _) = up_to(text.strip_prefix('[')?, 48).split_once(']')?;
    is_address(inner).then_some(inner.len() + 2)
}

/// Whether a text is an IPv6 address or a time.
fn is_address(text: &str) -> bool {
    let is_part = |char: char| char.is_ascii_hexdigit() || char == ':' || char == '.';
    text.matches(':').count() >= 2
        && text.chars().all(is_part)
        && text.contains(|char: char| char.is_ascii_digit())
}

/// What a text without spaces is, if it is the name of a place.
pub(super) fn location(text: &str) -> Option<&'static str> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let is_scheme = scheme.starts_with(|char: char| char.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
        return (is_scheme && !rest.is_empty()).then_some("<url>");
    }
    if let Some((name, host)) = text.split_once('@') {
        let is_address = name.ends_with(|char: char| char.is_alphanumeric()) && host.contains('.');
        return is_address.then_some("<email>");
    }
    if is_address(text) {
        return Some("#");
    }
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    let absolute = text.strip_prefix('/').or_else(|| text.strip_prefix("~/"));
    if absolute.is_some_and(|rest| rest.starts_with(is_part)) {
        return Some("<path>");
    }
    let is_drive = text
        .as_bytes()
        .get(1..3)
        .is_some_and(|next| matches!(next, b":\\" | b":/"));
    let slashes = text.matches(['/', '\\']).count();
    let is_relative = text.starts_with("./") || text.starts_with("../") || slashes >= 2;
    let has_extension = || {
        let (_, file) = text.rsplit_once(['/', '\\'])?;
        let (name, extension) = file.split(':').next()?.rsplit_once('.')?;
        let is_extension = (1..=5).contains(&extension.len()) && extension.chars().all(is_part);
        Some(
            !name.is_empty()
                && is_extension
                && extension.contains(|c: char| c.is_ascii_alphabetic()),
        )
    };
    // `and/or`, `application/json` and `HTTP/1.1` are words, and `1/2/2026` is a number.
    let has_name = text.contains(|char: char| char.is_ascii_alphabetic());
    let is_path = is_drive || (has_name && (is_relative || has_extension() == Some(true)));
    (is_path && !text.contains('=')).then_some("<path>")
}

/// The name of a Rust source file at the end of a path, which may be followed by a line.
pub(super) fn source_file(path: &str) -> Option<&str> {
    let file = path.rsplit(['/', '\\']).next()?;
    let (name, line) = file.split_once(".rs")?;
    let is_line = line
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b':');
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (is_line && is_name).then(|| &file[..name.len() + 3])
}

/// A part of a word: `#` for a number or an id, otherwise with its digits as `#`.
pub(super) fn shortened(part: &str) -> String {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 && !is_hex_id(part) {
        return part.to_owned();
    }
    // `utf8` and `E0308`, but neither `8f` nor `9k3d`.
    let letters = part.trim_end_matches(|char: char| char.is_ascii_digit());
    let is_kind = |letters: &str| {
        let rest = letters.get(1..).unwrap_or("x");
        let lower = rest.chars().all(char::is_lowercase);
        let upper = letters.chars().all(char::is_uppercase);
        (lower || upper) && letters.len() <= 12
    };
    match letters.chars().all(char::is_alphabetic) && is_kind(letters) && !is_hex_id(part) {
        true => format!("{letters}#"),
        false => "#".to_owned(),
    }
}

/// Whether a text is a hexadecimal number of an id.
pub(super) fn is_hex_id(text: &str) -> bool {
    let least = match text.bytes().any(|byte| byte.is_ascii_digit()) {
        true => 4,
        false => 8,
    };
    text.len() >= least && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A word without the UUID at its end, and `#` if there was one.
pub(super) fn without_uuid(word: &str) -> (&str, &'static str) {
    let start = word
        .len()
        .checked_sub(36)
        .filter(|start| word.is_char_boundary(*start));
    let Some((before, id)) = start.map(|start| word.split_at(start)) else {
        return (word, "");
    };
    let lengths = id.split('-').map(str::len);
    let is_uuid = lengths.eq([8, 4, 4, 4, 12])
        && id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    match is_uuid {
        true => (before, "#"),
        false => (word, ""),
    }
}

/// A word in which numbers that follow each other are one, as the parts of a UUID or a date do.
pub(super) fn collapsed(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut before = "";
    for part in word.split_inclusive(['_', '-']) {
        let is_number = part.trim_end_matches(['_', '-']) == "#";
        if is_number && before.trim_end_matches(['_', '-']) == "#" {
            // The sign after the earlier number goes with it.
            out.truncate(out.len() - before.len());
        }
        out.push_str(part);
        before = part;
    }
    out
}
