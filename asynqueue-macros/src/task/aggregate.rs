//! `aggregate(grace = "10s", max_delay = "1m", max_size = 100)`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Path, Result};

use crate::{
    attribute::{Key, KeyList},
    mistakes::Mistakes,
    value::Value,
};

/// When the tasks of a group become one task. Missing values have the framework's default.
#[derive(Default)]
pub(super) struct Aggregate {
    /// In milliseconds, like `max_delay`.
    grace: Option<u64>,
    max_delay: Option<u64>,
    max_size: Option<usize>,
}

static KEYS: [Key; 3] = [
    Key {
        name: "grace",
        example: "grace = \"10s\"",
    },
    Key {
        name: "max_delay",
        example: "max_delay = \"1m\"",
    },
    Key {
        name: "max_size",
        example: "max_size = 100",
    },
];

/// The same as in the framework.
const MAX_SIZE: usize = 1_000;
const DEFAULT_GRACE: u64 = 10_000;
const DEFAULT_MAX_DELAY: u64 = 60_000;

const NO_GRACE: &str = "a grace period of 0 leaves no time for another task to arrive: \
                        write a longer one, such as \"10s\"";
const NO_DELAY: &str = "a maximum delay of 0 leaves no time for another task to arrive: \
                        write a longer one, such as \"1m\"";

impl Aggregate {
    pub(super) fn read(value: &Value<'_>, mistakes: &mut Mistakes) -> Result<Self> {
        let mut keys = KeyList::new("`aggregate`", &KEYS);
        let mut limits = Self::default();
        value.parenthesized("a list", |input| {
            keys.read(input, mistakes, &mut |entry, _| {
                match entry.key.name {
                    "grace" => limits.grace = Some(entry.millis_above_zero(NO_GRACE)?),
                    "max_delay" => limits.max_delay = Some(entry.millis_above_zero(NO_DELAY)?),
                    _ => limits.max_size = Some(read_size(entry)?),
                }
                Ok(())
            });
            Ok(())
        })?;
        let grace = limits.grace.unwrap_or(DEFAULT_GRACE);
        if grace > limits.max_delay.unwrap_or(DEFAULT_MAX_DELAY) {
            let message = "the grace period is longer than the maximum delay (default \"1m\"): \
                           raise `max_delay` to at least the grace period";
            return Err(Error::new(value.name.span(), message));
        }
        Ok(limits)
    }

    /// The value of `TaskOptions::aggregate`.
    pub(super) fn expand(&self, krate: &Path) -> TokenStream {
        let millis = |millis: u64| quote!(::core::time::Duration::from_millis(#millis));
        let grace = self.grace.map(millis).map(|grace| quote!(.grace(#grace)));
        let max_delay = self.max_delay.map(millis);
        let max_delay = max_delay.map(|max_delay| quote!(.max_delay(#max_delay)));
        let max_size = self.max_size.map(|size| quote!(.max_size(#size)));
        quote!(#krate::task::Aggregate::DEFAULT #grace #max_delay #max_size)
    }
}

fn read_size(value: &Value<'_>) -> Result<usize> {
    let span = value.input.span();
    match value.number(MAX_SIZE)? {
        0 => Err(Error::new(span, "`max_size` is 0: expected at least 1")),
        size => Ok(size),
    }
}
