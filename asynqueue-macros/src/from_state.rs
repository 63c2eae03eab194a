//! `#[derive(FromState)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Data, DeriveInput, Error, Fields, Generics, Path, Result, Token, Type, parse_quote,
    spanned::Spanned,
};

use crate::{
    attribute::{Key, KeyList},
    mistakes::Mistakes,
    value::Value,
};

static STRUCT_KEYS: [Key; 1] = [Key {
    name: "crate",
    example: "crate = asynqueue",
}];

static FIELD_KEYS: [Key; 1] = [Key {
    name: "default",
    example: "default",
}];

/// The source of a field's value.
enum Source {
    State,
    Default,
}

/// The implementation, and a compile error for each mistake.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let krate = read_crate(input, &mut mistakes);
    let fields = mistakes.catch(fields_of(input));
    let sources: Vec<Source> = fields
        .into_iter()
        .flatten()
        .map(|field| read_source(field, &mut mistakes))
        .collect();
    let mut tokens = mistakes.into_compile_errors();
    if let (Some(krate), Some(fields)) = (krate, fields) {
        tokens.extend(expand(input, fields, &sources, &krate));
    }
    tokens
}

fn fields_of(input: &DeriveInput) -> Result<&Fields> {
    let (keyword, span) = match &input.data {
        Data::Struct(data) => return Ok(&data.fields),
        Data::Enum(data) => ("an enum", data.enum_token.span),
        Data::Union(data) => ("a union", data.union_token.span),
    };
    let message = format!(
        "{keyword} cannot be built from the state, because its variant or field is ambiguous: \
         use a struct, or implement `FromState` by hand"
    );
    Err(Error::new(span, message))
}

fn read_crate(input: &DeriveInput, mistakes: &mut Mistakes) -> Option<Path> {
    let mut krate = None;
    let mut keys = KeyList::new("`#[from_state]` on a struct", &STRUCT_KEYS);
    keys.read_attributes(&input.attrs, "from_state", mistakes, |value, _| {
        krate = Some(value.path()?);
        Ok(())
    });
    match keys.has("crate") {
        true => krate,
        false => Some(parse_quote!(::asynqueue)),
    }
}

fn read_source(field: &syn::Field, mistakes: &mut Mistakes) -> Source {
    let mut keys = KeyList::new("`#[from_state]` on a field", &FIELD_KEYS);
    keys.read_attributes(&field.attrs, "from_state", mistakes, |value, _| {
        refuse_value(value)
    });
    match keys.has("default") {
        true => Source::Default,
        false => Source::State,
    }
}

fn refuse_value(value: &Value<'_>) -> Result<()> {
    if value.input.is_empty() || value.input.peek(Token![,]) {
        return Ok(());
    }
    let message = "`default` does not accept a value, it uses the type's `Default`: \
                   for another value, implement `FromState` by hand";
    Err(Error::new(value.input.span(), message))
}

fn expand(input: &DeriveInput, fields: &Fields, sources: &[Source], krate: &Path) -> TokenStream {
    let process = &input.ident;
    let members = fields.members();
    let values = fields
        .iter()
        .zip(sources)
        .map(|(field, source)| expand_value(&field.ty, source));
    // Without fields from the state, the parameter would cause an unused warning.
    let state = match sources.iter().any(|source| matches!(source, Source::State)) {
        true => quote!(state),
        false => quote!(_),
    };
    let generics = bound_fields(&input.generics, fields, sources);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::process::FromState for #process #ty_generics #where_clause {
            fn from_state(
                #state: &#krate::process::ServerState,
            ) -> ::core::result::Result<Self, #krate::process::MissingState> {
                ::core::result::Result::Ok(Self { #(#members: #values,)* })
            }
        }
    }
}

/// Uses the span of the type, so that a type that is not `Clone`, `Send` or `Sync` is reported at its field.
fn expand_value(ty: &Type, source: &Source) -> TokenStream {
    match source {
        Source::State => quote_spanned! {ty.span()=>
            <#ty as ::core::clone::Clone>::clone(state.get::<#ty>()?)
        },
        Source::Default => quote_spanned! {ty.span()=>
            <#ty as ::core::default::Default>::default()
        },
    }
}

/// Adds the bounds that the fields of a generic handler need to be taken from the state. Without generics, the compiler
/// checks them anyway.
fn bound_fields(generics: &Generics, fields: &Fields, sources: &[Source]) -> Generics {
    let mut generics = generics.clone();
    if generics.type_params().next().is_none() {
        return generics;
    }
    let clause = generics.make_where_clause();
    for (field, source) in fields.iter().zip(sources) {
        let ty = &field.ty;
        clause.predicates.push(match source {
            Source::State => parse_quote! {
                #ty: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static
            },
            Source::Default => parse_quote!(#ty: ::core::default::Default),
        });
    }
    generics
}
