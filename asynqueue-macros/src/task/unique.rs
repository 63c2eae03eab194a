//! `unique(ttl = "1h", until = "start", fields(user_id))`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Data, DataStruct, Error, Fields, Ident, Path, Result, Token, ext::IdentExt,
    punctuated::Punctuated,
};

use crate::{
    attribute::{Key, KeyList},
    mistakes::Mistakes,
    suggest,
    value::Value,
};

/// How tasks of the type are kept unique.
pub(super) struct Unique {
    ttl: u64,
    /// The variant of `UniqueUntil`.
    until: &'static str,
    /// The fields that make two payloads the same; none for all.
    fields: Vec<Ident>,
}

static KEYS: [Key; 3] = [
    Key {
        name: "ttl",
        example: "ttl = \"1h\"",
    },
    Key {
        name: "until",
        example: "until = \"success\"",
    },
    Key {
        name: "fields",
        example: "fields(user_id)",
    },
];

/// What releases the lock: the word in the attribute and the variant.
const UNTIL: [(&str, &str); 3] = [
    ("start", "Start"),
    ("success", "Success"),
    ("window", "Window"),
];

const NO_TTL: &str =
    "a lock of no length locks nothing: write how long it is held at most, such as `ttl = \"1h\"`";

/// Tuples of more than this many values have no `Serialize`.
const MAX_FIELDS: usize = 16;

impl Unique {
    /// Reads the list. Nothing if it has a mistake that is noted already.
    pub(super) fn read(
        value: &Value<'_>,
        data: &Data,
        mistakes: &mut Mistakes,
    ) -> Result<Option<Self>> {
        let mut keys = KeyList::new("`unique`", &KEYS);
        let (mut ttl, mut until, mut fields) = (None, None, Vec::new());
        value.parenthesized("a list", |input| {
            keys.read(input, mistakes, &mut |entry, mistakes| {
                match entry.key.name {
                    "ttl" => ttl = Some(entry.millis_above_zero(NO_TTL)?),
                    "until" => until = Some(read_until(entry)?),
                    _ => fields = read_fields(entry, data, mistakes)?,
                }
                Ok(())
            });
            Ok(())
        })?;
        if !keys.has("ttl") {
            let message = "a lock without a time limit would outlive a crash for ever; \
                           add `ttl = \"1h\"`";
            return Err(Error::new(value.name.span(), message));
        }
        let until = until.unwrap_or("Success");
        Ok(ttl.map(|ttl| Self { ttl, until, fields }))
    }

    /// The value of `TaskOptions::unique`.
    pub(super) fn expand(&self, krate: &Path) -> TokenStream {
        let Self { ttl, until, .. } = self;
        let until = Ident::new(until, Span::call_site());
        quote! {
            #krate::task::Unique::new(
                #krate::task::UniqueUntil::#until,
                ::core::time::Duration::from_millis(#ttl),
            )
        }
    }

    /// `Task::unique_key`, if it is other than the default.
    pub(super) fn expand_key(&self, krate: &Path) -> Option<TokenStream> {
        let fields = &self.fields;
        if fields.is_empty() {
            return None;
        }
        Some(quote! {
            fn unique_key(&self)
                -> ::core::result::Result<#krate::task::UniqueKey, #krate::codec::CodecError>
            {
                #krate::task::UniqueKey::of_value::<#krate::codec::MessagePack>(
                    <Self as #krate::task::Task>::EVENT,
                    &(#(&self.#fields,)*),
                )
            }
        })
    }
}

fn read_until(value: &Value<'_>) -> Result<&'static str> {
    let text = value.text()?;
    let typed = text.value();
    if let Some((_, variant)) = UNTIL.into_iter().find(|(word, _)| *word == typed) {
        return Ok(variant);
    }
    let words = UNTIL.into_iter().map(|(word, _)| word);
    let suggestion = suggest::did_you_mean(suggest::closest(&typed, words));
    let message = format!(
        "unknown moment \"{typed}\"{suggestion} A lock is held until \"start\" (a worker starts the task), \
         \"success\" (it has come to its end) or \"window\" (its `ttl` is over)"
    );
    Err(Error::new(text.span(), message))
}

fn read_fields(value: &Value<'_>, data: &Data, mistakes: &mut Mistakes) -> Result<Vec<Ident>> {
    let Data::Struct(DataStruct {
        fields: Fields::Named(known),
        ..
    }) = data
    else {
        let message = "only a struct with named fields has fields to choose from; \
                       leave `fields` out to compare the whole payload";
        return Err(Error::new(value.name.span(), message));
    };
    let known: Vec<&Ident> = known
        .named
        .iter()
        .filter_map(|f| f.ident.as_ref())
        .collect();
    let typed = value.parenthesized("a list", |input| {
        Punctuated::<Ident, Token![,]>::parse_terminated_with(input, Ident::parse_any)
    })?;
    if typed.is_empty() {
        let message = "`fields` names at least one field; \
                       leave it out to compare the whole payload";
        return Err(Error::new(value.name.span(), message));
    }
    let mut chosen: Vec<Ident> = Vec::new();
    for field in typed {
        let outcome = check_field(&field, &known, &chosen);
        chosen.extend(mistakes.catch(outcome));
    }
    Ok(chosen)
}

/// The struct's own name for the field, which can be a raw identifier.
fn check_field(field: &Ident, known: &[&Ident], chosen: &[Ident]) -> Result<Ident> {
    let text = field.unraw().to_string();
    let Some(own) = known.iter().find(|own| own.unraw() == text) else {
        let names: Vec<String> = known.iter().map(|own| own.unraw().to_string()).collect();
        let closest = suggest::closest(&text, names.iter().map(String::as_str));
        let suggestion = suggest::did_you_mean(closest);
        let names = match names.as_slice() {
            [] => "none".to_owned(),
            names => format!("`{}`", names.join("`, `")),
        };
        let message = format!("unknown field `{text}`{suggestion} The struct's fields are {names}");
        return Err(Error::new(field.span(), message));
    };
    if chosen.contains(own) {
        let message = format!("`{text}` is named twice; take one of them out");
        return Err(Error::new(field.span(), message));
    }
    if chosen.len() == MAX_FIELDS {
        let message = "`fields` names at most 16 fields; to compare more, leave it out and compare \
                       the whole payload, or put the fields into a struct of their own";
        return Err(Error::new(field.span(), message));
    }
    // With the span of the attribute, so that a field which can't be encoded is shown there.
    let mut own = (*own).clone();
    own.set_span(field.span());
    Ok(own)
}
