//! The value of one key, and what each kind of value may be.

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Ident, Lit, LitInt, LitStr, Path, Result, Token, Type, parse::ParseStream, token,
};

use crate::{attribute::Key, duration};

/// A key whose value is about to be read.
pub(crate) struct Value<'i> {
    pub(crate) key: &'static Key,
    pub(crate) name: Ident,
    pub(crate) input: ParseStream<'i>,
}

impl<'i> Value<'i> {
    /// Text in quotes.
    pub(crate) fn text(&self) -> Result<LitStr> {
        self.equals("text in quotes")?;
        self.input
            .parse()
            .map_err(|error: Error| self.expected_at(error.span(), "text in quotes"))
    }

    /// Text in quotes that passes `check`.
    pub(crate) fn checked_text(&self, check: fn(&LitStr) -> Result<()>) -> Result<LitStr> {
        let text = self.text()?;
        check(&text)?;
        Ok(text)
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn number<N>(&self, max: N) -> Result<N>
    where
        N: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display + PartialOrd,
    {
        let what = format!("a whole number from 0 to {max}");
        self.equals(&what)?;
        let literal: LitInt = self
            .input
            .parse()
            .map_err(|error: Error| self.expected_at(error.span(), &what))?;
        literal
            .base10_parse()
            .ok()
            .filter(|number| *number <= max)
            .ok_or_else(|| self.expected_at(literal.span(), &what))
    }

    /// A duration in milliseconds.
    pub(crate) fn millis(&self) -> Result<u64> {
        let what = "a duration in quotes";
        self.equals(what)?;
        millis_of(self.input, self.key.name)?.ok_or_else(|| self.expected(what))
    }

    /// A duration in milliseconds that is not zero, because of `reason`.
    pub(crate) fn millis_above_zero(&self, reason: &str) -> Result<u64> {
        let start = self.input.fork();
        match self.millis()? {
            0 => {
                start.parse::<Token![=]>()?;
                Err(Error::new(start.span(), reason))
            }
            millis => Ok(millis),
        }
    }

    pub(crate) fn ty(&self) -> Result<Type> {
        self.equals("a type")?;
        self.no_literal("a type")?;
        if self.input.is_empty() || self.input.peek(Token![,]) {
            return Err(self.expected("a type"));
        }
        self.input.parse()
    }

    pub(crate) fn path(&self) -> Result<Path> {
        self.equals("a path")?;
        self.no_literal("a path")?;
        self.input.call(Path::parse_mod_style)
    }

    /// Reads what stands in parentheses after the key, all of it.
    pub(crate) fn parenthesized<T>(
        &self,
        what: &str,
        read: impl FnOnce(ParseStream<'_>) -> Result<T>,
    ) -> Result<T> {
        if !self.input.peek(token::Paren) {
            let what = format!("{what} in parentheses");
            return Err(self.expected_at(self.name.span(), &what));
        }
        let content;
        syn::parenthesized!(content in self.input);
        let outcome = read(&content).and_then(|value| match content.is_empty() {
            true => Ok(value),
            false => Err(Error::new(
                content.span(),
                "nothing is expected here: take it out",
            )),
        });
        // syn reports unread tokens as a mistake of their own; one message a mistake is enough.
        content.parse::<TokenStream>()?;
        outcome
    }

    /// An error at what is there in place of the value.
    pub(crate) fn expected(&self, what: &str) -> Error {
        self.expected_at(self.input.span(), what)
    }

    fn expected_at(&self, span: Span, what: &str) -> Error {
        let Key { name, example } = self.key;
        Error::new(span, format!("`{name}` takes {what}, such as `{example}`"))
    }

    pub(crate) fn equals(&self, what: &str) -> Result<()> {
        if self.input.peek(Token![=]) {
            return self.input.parse::<Token![=]>().map(drop);
        }
        Err(self.expected_at(self.name.span(), what))
    }

    /// Types and paths stand without quotes, unlike in some other derives.
    fn no_literal(&self, what: &str) -> Result<()> {
        if self.input.peek(Lit) {
            return Err(self.expected(&format!("{what} without quotes")));
        }
        Ok(())
    }
}

/// The milliseconds of the duration that comes next, or nothing if what comes is neither text nor a number.
pub(crate) fn millis_of(input: ParseStream<'_>, name: &str) -> Result<Option<u64>> {
    if input.peek(LitInt) {
        let number: LitInt = input.parse()?;
        return Err(Error::new(number.span(), unquoted(&number, name)));
    }
    if !input.peek(LitStr) {
        return Ok(None);
    }
    let text: LitStr = input.parse()?;
    duration::parse_millis(&text.value())
        .map(Some)
        .map_err(|reason| {
            let message = format!("\"{}\" is no duration: {reason}", text.value());
            Error::new(text.span(), message)
        })
}

/// What to say of a duration such as `30` or `30s`, without quotes.
fn unquoted(number: &LitInt, name: &str) -> String {
    let (digits, unit) = (number.base10_digits(), number.suffix());
    if digits.starts_with('-') {
        return format!("`{name}` takes a duration, which can't be negative");
    }
    if unit.is_empty() {
        return format!(
            "`{name}` takes a duration with its unit: write `\"{digits}s\"` if you mean seconds"
        );
    }
    format!("`{name}` takes its duration in quotes: write `\"{digits}{unit}\"`")
}
