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
    /// The fields that are compared. Empty for all.
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

/// What releases the lock: the attribute's value and the variant.
const UNTIL: [(&str, &str); 3] = [
    ("start", "Start"),
    ("success", "Success"),
    ("window", "Window"),
];

const NO_TTL: &str = "a lock with a ttl of 0 has no effect: write the maximum time that it is held, \
    such as `ttl = \"1h\"`";

/// Tuples of more than this many values have no `Serialize`.
const MAX_FIELDS: usize = 16;

impl Unique {
    /// Parses the list. `None` if it has a mistake that was already added.
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
            let message = "the ttl is missing: add the maximum time that the lock is held, such as \
                           `ttl = \"1h\"`, so that a crash cannot hold it forever";
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

    /// `Task::unique_key`. `None` for the default.
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
        "unknown value \"{typed}\"{suggestion} expected \"start\" (a worker starts the task), \
         \"success\" (the task has finished) or \"window\" (its `ttl` has passed)"
    );
    Err(Error::new(text.span(), message))
}

fn read_fields(value: &Value<'_>, data: &Data, mistakes: &mut Mistakes) -> Result<Vec<Ident>> {
    let Data::Struct(DataStruct {
        fields: Fields::Named(known),
        ..
    }) = data
    else {
        let message = "`fields` requires a struct with named fields: \
                       remove it to compare the entire payload";
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
        let message = "`fields` is empty: \
                       name at least one field, or remove it to compare the entire payload";
        return Err(Error::new(value.name.span(), message));
    }
    let mut chosen: Vec<Ident> = Vec::new();
    for field in typed {
        let outcome = check_field(&field, &known, &chosen);
        chosen.extend(mistakes.catch(outcome));
    }
    Ok(chosen)
}

/// The struct's own identifier of the field, which can be a raw identifier.
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
        let message = format!("unknown field `{text}`{suggestion} the struct's fields are {names}");
        return Err(Error::new(field.span(), message));
    };
    if chosen.contains(own) {
        let message = format!("`{text}` is listed twice: remove one of them");
        return Err(Error::new(field.span(), message));
    }
    if chosen.len() == MAX_FIELDS {
        let message = "`fields` accepts at most 16 fields: remove it to compare the entire payload, \
                       or move the fields into a separate struct";
        return Err(Error::new(field.span(), message));
    }
    // With the span of the attribute, so that a field that cannot be encoded is reported there.
    let mut own = (*own).clone();
    own.set_span(field.span());
    Ok(own)
}
