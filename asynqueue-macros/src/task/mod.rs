//! `#[derive(Task)]`.

mod aggregate;
mod arguments;
mod backoff;
mod expand;
mod names;
mod unique;

use proc_macro2::TokenStream;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Result};

use self::arguments::Arguments;
use crate::mistakes::Mistakes;

/// The implementation, and a compile error for each mistake.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let shape = mistakes.catch(check_shape(input));
    check_placement(&input.data, &mut mistakes);
    let arguments = Arguments::read(input, &mut mistakes);
    let mut tokens = mistakes.into_compile_errors();
    // Also generated if an attribute is invalid: otherwise the compiler would report at every use that the type is not
    // a task, and hide the actual mistake.
    if let (Some(()), Some(krate)) = (shape, &arguments.krate) {
        tokens.extend(arguments.expand(&input.ident, krate));
    }
    tokens
}

fn check_shape(input: &DeriveInput) -> Result<()> {
    if let Data::Union(data) = &input.data {
        let message = "a union cannot be a task, because its active field is unknown: \
                       use an enum";
        return Err(Error::new(data.union_token.span, message));
    }
    if !input.generics.params.is_empty() {
        let message = "a task type cannot be generic, because one event name would stand for many payloads: \
                       write a struct with owned fields and a separate event for each payload";
        return Err(Error::new_spanned(&input.generics, message));
    }
    Ok(())
}

/// The compiler also accepts a derive's attributes on fields and variants, where they have no meaning.
fn check_placement(data: &Data, mistakes: &mut Mistakes) {
    match data {
        Data::Struct(data) => check_fields(&data.fields, mistakes),
        Data::Enum(data) => {
            for variant in &data.variants {
                refuse(&variant.attrs, mistakes);
                check_fields(&variant.fields, mistakes);
            }
        }
        Data::Union(_) => {}
    }
}

fn check_fields(fields: &Fields, mistakes: &mut Mistakes) {
    for field in fields {
        refuse(&field.attrs, mistakes);
    }
}

fn refuse(attributes: &[Attribute], mistakes: &mut Mistakes) {
    for attribute in attributes.iter().filter(|a| a.path().is_ident("task")) {
        let message = "`#[task]` applies to the entire payload: move it above the struct or enum";
        mistakes.add(Error::new_spanned(attribute, message));
    }
}
