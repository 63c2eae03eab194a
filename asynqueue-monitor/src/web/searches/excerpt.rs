//! The part of a task that matches a search.

use asynqueue_core::{
    broker::TaskInfo,
    inspector::{Filter, Inspector},
};

use crate::web::show;

/// The text of a task around the first word that was searched for, or what lists show of it.
pub(super) fn excerpt(inspector: &Inspector, filter: &Filter, info: &TaskInfo) -> String {
    let envelope = &info.envelope;
    let payload = inspector.payload(info).to_string();
    let failures = envelope.failures().iter().rev();
    let failures = failures.map(|failure| format!("{} {}", failure.kind, failure.message));
    let headers = envelope.headers.iter();
    let headers = headers.map(|(name, value)| format!("{name}={value}"));
    let texts: Vec<_> = failures.chain([payload]).chain(headers).collect();
    let mut words = filter.texts().iter();
    let around = words.find_map(|word| texts.iter().find_map(|text| around(text, word)));
    // The last failure, or the payload.
    around.unwrap_or_else(|| {
        texts
            .first()
            .map_or_else(String::new, |text| show::cut(text))
    })
}

/// The part of a text around a word, ignoring case.
fn around(text: &str, word: &str) -> Option<String> {
    const BEFORE: usize = 40;
    let chars: Vec<char> = text.chars().collect();
    let lower = |c: &char| c.to_lowercase().next().unwrap_or(*c);
    let (folded, word): (Vec<_>, Vec<_>) = (
        chars.iter().map(lower).collect(),
        word.chars().map(|c| lower(&c)).collect(),
    );
    let at = folded
        .windows(word.len().max(1))
        .position(|part| part == word)?;
    let from = if at > BEFORE { at - BEFORE / 2 } else { 0 };
    let cut = show::cut(&chars[from..].iter().collect::<String>());
    Some(if from > 0 { format!("…{cut}") } else { cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_around_the_word() {
        let text = format!("{} Order 1000123 {}", "a".repeat(100), "b".repeat(200));
        let found = around(&text, "ORDER 1000").expect("found");
        assert!(
            found.starts_with("…aaa") && found.contains("Order 1000123 bbb"),
            "{found}"
        );
        assert_eq!(around("short", "SHORT").as_deref(), Some("short"));
        assert_eq!(around("short", "long"), None);
    }
}
