//! `backoff = standard`, `fixed("10s")` or `exponential("1s", "1h")`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Ident, LitStr, Path, Result, Token, parse::ParseStream};

use crate::{
    attribute::Key,
    suggest,
    value::{Value, millis_of},
};

/// The waits before a task's retries, in milliseconds.
pub(super) enum Backoff {
    Standard,
    Fixed(u64),
    Exponential { base: u64, max: u64 },
}

const FORMS: &str = "`standard`, `fixed(\"10s\")` or `exponential(\"1s\", \"1h\")`";

static FIXED: Key = Key {
    name: "fixed",
    example: "fixed(\"10s\")",
};

static EXPONENTIAL: Key = Key {
    name: "exponential",
    example: "exponential(\"1s\", \"1h\")",
};

impl Backoff {
    pub(super) fn read(value: &Value<'_>) -> Result<Self> {
        value.equals("`=` and a form")?;
        let input = value.input;
        if input.peek(LitStr) {
            let message = format!("unexpected quotes around the backoff: write {FORMS}");
            return Err(Error::new(input.span(), message));
        }
        let form: Ident = input
            .parse()
            .map_err(|_| Error::new(input.span(), format!("expected a backoff: {FORMS}")))?;
        let arguments = |key| Value {
            key,
            name: form.clone(),
            input,
        };
        match form.to_string().as_str() {
            "standard" => Ok(Self::Standard),
            "fixed" => arguments(&FIXED).parenthesized("a duration", read_fixed),
            "exponential" => {
                arguments(&EXPONENTIAL).parenthesized("two durations", read_exponential)
            }
            other => Err(unknown(&form, other)),
        }
    }

    pub(super) fn expand(&self, krate: &Path) -> TokenStream {
        match self {
            Self::Standard => quote!(#krate::task::Backoff::Standard),
            Self::Fixed(millis) => {
                quote!(#krate::task::Backoff::Fixed(::core::time::Duration::from_millis(#millis)))
            }
            Self::Exponential { base, max } => quote! {
                #krate::task::Backoff::Exponential {
                    base: ::core::time::Duration::from_millis(#base),
                    max: ::core::time::Duration::from_millis(#max),
                }
            },
        }
    }
}

fn read_fixed(input: ParseStream<'_>) -> Result<Backoff> {
    let wait = argument(input, &FIXED)?;
    end(input)?;
    Ok(Backoff::Fixed(wait))
}

fn read_exponential(input: ParseStream<'_>) -> Result<Backoff> {
    let start = input.span();
    let base = argument(input, &EXPONENTIAL)?;
    input.parse::<Token![,]>().map_err(|_| {
        let example = EXPONENTIAL.example;
        let message = format!(
            "the maximum wait is missing: add it as the second argument, as in `{example}`"
        );
        Error::new(input.span(), message)
    })?;
    let max = argument(input, &EXPONENTIAL)?;
    end(input)?;
    if base == 0 {
        let message = "a first wait of 0 stays 0 when doubled: \
                       write `fixed(\"0s\")` to retry immediately, or a longer first wait";
        return Err(Error::new(start, message));
    }
    if base > max {
        let message = "the first wait is longer than the maximum wait: swap them";
        return Err(Error::new(start, message));
    }
    Ok(Backoff::Exponential { base, max })
}

fn argument(input: ParseStream<'_>, form: &Key) -> Result<u64> {
    millis_of(input, form.name)?.ok_or_else(|| {
        let message = format!("expected a duration string, as in `{}`", form.example);
        Error::new(input.span(), message)
    })
}

/// Parses the comma that may follow the last argument.
fn end(input: ParseStream<'_>) -> Result<()> {
    input.parse::<Option<Token![,]>>().map(drop)
}

fn unknown(form: &Ident, text: &str) -> Error {
    let forms = ["standard", "fixed", "exponential"];
    let suggestion = suggest::did_you_mean(suggest::closest(text, forms.into_iter()));
    let message = format!("unknown backoff `{text}`{suggestion} expected {FORMS}");
    Error::new(form.span(), message)
}
