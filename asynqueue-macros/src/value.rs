//! The value of a key, and the kinds of values.

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Ident, Lit, LitInt, LitStr, Path, Result, Token, Type, parse::ParseStream, token,
};

use crate::{attribute::Key, duration};

/// A key whose value is read next.
pub(crate) struct Value<'i> {
    pub(crate) key: &'static Key,
    pub(crate) name: Ident,
    pub(crate) input: ParseStream<'i>,
}

impl<'i> Value<'i> {
    /// A string.
    pub(crate) fn text(&self) -> Result<LitStr> {
        self.equals("a string")?;
        self.input
            .parse()
            .map_err(|error: Error| self.expected_at(error.span(), "a string"))
    }

    /// A string that passes `check`.
    pub(crate) fn checked_text(&self, check: fn(&LitStr) -> Result<()>) -> Result<LitStr> {
        let text = self.text()?;
        check(&text)?;
        Ok(text)
    }

    /// An integer from 0 to `max`.
    pub(crate) fn number<N>(&self, max: N) -> Result<N>
    where
        N: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display + PartialOrd,
    {
        let what = format!("an integer from 0 to {max}");
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
        let what = "a duration string";
        self.equals(what)?;
        millis_of(self.input, self.key.name)?.ok_or_else(|| self.expected(what))
    }

    /// A duration in milliseconds. Zero is refused for `reason`.
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

    /// Parses everything in the parentheses after the key.
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
            false => Err(Error::new(content.span(), "unexpected input: remove it")),
        });
        // syn would report unread tokens as another error; one error per mistake is enough.
        content.parse::<TokenStream>()?;
        outcome
    }

    /// An error in the place of the value.
    pub(crate) fn expected(&self, what: &str) -> Error {
        self.expected_at(self.input.span(), what)
    }

    fn expected_at(&self, span: Span, what: &str) -> Error {
        let Key { name, example } = self.key;
        Error::new(
            span,
            format!("`{name}` expects {what}, such as `{example}`"),
        )
    }

    pub(crate) fn equals(&self, what: &str) -> Result<()> {
        if self.input.peek(Token![=]) {
            return self.input.parse::<Token![=]>().map(drop);
        }
        Err(self.expected_at(self.name.span(), what))
    }

    /// Types and paths have no quotes, unlike in some other derives.
    fn no_literal(&self, what: &str) -> Result<()> {
        if self.input.peek(Lit) {
            return Err(self.expected(&format!("{what} without quotes")));
        }
        Ok(())
    }
}

/// The milliseconds of the next duration. `None` if the next token is neither a string nor a number.
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
            let message = format!("\"{}\" is not a duration: {reason}", text.value());
            Error::new(text.span(), message)
        })
}

/// The error for a duration without quotes, such as `30` or `30s`.
fn unquoted(number: &LitInt, name: &str) -> String {
    let (digits, unit) = (number.base10_digits(), number.suffix());
    if digits.starts_with('-') {
        return format!("`{name}` expects a duration, which cannot be negative");
    }
    if unit.is_empty() {
        return format!(
            "`{name}` expects a duration with a unit: write `\"{digits}s\"` for seconds"
        );
    }
    format!("`{name}` expects a duration string: write `\"{digits}{unit}\"`")
}
