//! Lists of `key = value` in attributes.

use proc_macro2::TokenTree;
use syn::{Error, Ident, Meta, Result, Token, ext::IdentExt, parse::ParseStream};

use crate::{mistakes::Mistakes, suggest, value::Value};

/// A key of a list.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The key with a value, for error messages.
    pub(crate) example: &'static str,
}

/// A list of keys, each of which may occur once.
pub(crate) struct KeyList {
    /// What the list belongs to, for error messages.
    owner: &'static str,
    keys: &'static [Key],
    seen: Vec<&'static str>,
    /// Keys that an error most likely stands for, so that they are not reported as missing too.
    meant: Vec<&'static str>,
}

impl KeyList {
    pub(crate) fn new(owner: &'static str, keys: &'static [Key]) -> Self {
        Self {
            owner,
            keys,
            seen: Vec::new(),
            meant: Vec::new(),
        }
    }

    /// Whether the key was given, valid or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.seen.contains(&name) || self.meant.contains(&name)
    }

    /// Parses all attributes named `attribute` as if they were one list.
    pub(crate) fn read_attributes(
        &mut self,
        attributes: &[syn::Attribute],
        attribute: &str,
        mistakes: &mut Mistakes,
        mut read: impl FnMut(&Value<'_>, &mut Mistakes) -> Result<()>,
    ) {
        for each in attributes.iter().filter(|a| a.path().is_ident(attribute)) {
            let outcome = match &each.meta {
                Meta::List(list) => list.parse_args_with(|input: ParseStream<'_>| {
                    self.read(input, mistakes, &mut read);
                    Ok(())
                }),
                other => {
                    let example = self.mean_first();
                    let message = format!(
                        "`{attribute}` expects a list, such as `#[{attribute}({example})]`"
                    );
                    Err(Error::new_spanned(other, message))
                }
            };
            mistakes.catch(outcome);
        }
    }

    /// Parses one list to its end. After an error it continues after the next comma, so that every error is found.
    pub(crate) fn read(
        &mut self,
        input: ParseStream<'_>,
        mistakes: &mut Mistakes,
        read: &mut dyn FnMut(&Value<'_>, &mut Mistakes) -> Result<()>,
    ) {
        while !input.is_empty() {
            let outcome = self
                .read_key(input)
                .and_then(|value| read(&value, mistakes))
                .and_then(|()| expect_comma_or_end(input));
            mistakes.catch(outcome);
            skip_past_comma(input);
        }
    }

    fn read_key<'i>(&mut self, input: ParseStream<'i>) -> Result<Value<'i>> {
        let name = Ident::parse_any(input).map_err(|_| {
            let example = self.mean_first();
            Error::new(input.span(), format!("expected a key, such as `{example}`"))
        })?;
        let text = name.unraw().to_string();
        let Some(key) = self.keys.iter().find(|key| key.name == text) else {
            return Err(self.unknown(&name, &text));
        };
        if self.seen.contains(&key.name) {
            return Err(Error::new(
                name.span(),
                format!("`{text}` is set twice: remove one of them"),
            ));
        }
        self.seen.push(key.name);
        Ok(Value { key, name, input })
    }

    /// The first key's example, to show in an error without a key.
    fn mean_first(&mut self) -> &'static str {
        self.meant.push(self.keys[0].name);
        self.keys[0].example
    }

    fn unknown(&mut self, name: &Ident, text: &str) -> Error {
        let names: Vec<&'static str> = self.keys.iter().map(|key| key.name).collect();
        let closest = suggest::closest(text, names.iter().copied());
        self.meant.extend(closest);
        let message = format!(
            "unknown key `{text}`{} {} accepts `{}`",
            suggest::did_you_mean(closest),
            self.owner,
            names.join("`, `")
        );
        Error::new(name.span(), message)
    }
}

fn expect_comma_or_end(input: ParseStream<'_>) -> Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        Ok(())
    } else {
        Err(Error::new(input.span(), "expected `,` before this"))
    }
}

fn skip_past_comma(input: ParseStream<'_>) {
    while let Ok(token) = input.parse::<TokenTree>() {
        if matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',') {
            return;
        }
    }
}
