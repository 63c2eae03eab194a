//! `#[process]` on a function: reports what is wrong with a handler in its own code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, GenericArgument, ItemFn, Path, PathArguments, Result, ReturnType,
    Signature, Type, parse::Parser, parse_quote, spanned::Spanned,
};

use crate::{
    attribute::{Key, KeyList},
    mistakes::Mistakes,
};

static KEYS: [Key; 2] = [
    Key {
        name: "blocking",
        example: "blocking",
    },
    Key {
        name: "crate",
        example: "crate = asynqueue",
    },
];

/// As many as the framework implements.
const MAX_ARGUMENTS: usize = 8;

/// The options of the attribute.
struct Options {
    krate: Path,
    is_blocking: bool,
}

/// The unchanged function, followed by code that makes the compiler check its types, or by a compile error for each
/// mistake.
pub(crate) fn check(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let options = read_options(attribute, &mut mistakes);
    let checks = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => check_function(&function, &options, &mut mistakes),
        // The compiler reports the error itself.
        Err(_) if is_function(&item) => TokenStream::new(),
        Err(_) => {
            let message = "`#[process]` must be on a function; for a type, write `impl Process<T>`";
            mistakes.add(Error::new(Span::call_site(), message));
            TokenStream::new()
        }
    };
    let errors = mistakes.into_compile_errors();
    quote!(#item #errors #checks)
}

fn is_function(item: &TokenStream) -> bool {
    let mut tokens = item.clone().into_iter();
    tokens.any(|token| token.to_string() == "fn")
}

fn read_options(attribute: TokenStream, mistakes: &mut Mistakes) -> Options {
    let mut options = Options {
        krate: parse_quote!(::asynqueue),
        is_blocking: false,
    };
    let mut keys = KeyList::new("`#[process]`", &KEYS);
    let read = |input: syn::parse::ParseStream<'_>| {
        keys.read(input, mistakes, &mut |value, _| {
            match value.key.name {
                "crate" => options.krate = value.path()?,
                _ => options.is_blocking = true,
            }
            Ok(())
        });
        Ok(())
    };
    let outcome = read.parse2(attribute);
    mistakes.catch(outcome);
    options
}

/// The type checks of a function with a valid signature, or the mistakes of another.
fn check_function(function: &ItemFn, options: &Options, mistakes: &mut Mistakes) -> TokenStream {
    let signature = &function.sig;
    let types = argument_types(signature, mistakes);
    let form = [
        check_generics(signature),
        check_async(signature, options),
        check_count(signature, &types),
        check_payloads(&types),
    ];
    let has_form = form
        .into_iter()
        .all(|check| mistakes.catch(check).is_some());
    let returned = mistakes.catch(return_type(signature));
    match returned {
        Some(returned) if has_form && mistakes.is_empty() => {
            let conditions = conditions_of(&function.attrs);
            let checks = Checks {
                options,
                signature,
                types,
                returned,
            };
            let checks = checks.expand();
            quote!(#(#conditions)* #checks)
        }
        _ => TokenStream::new(),
    }
}

/// The `cfg` attributes of the function, which apply to its checks too.
fn conditions_of(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|a| a.path().is_ident("cfg"))
}

/// The types of the arguments. Adds a mistake for each type that no handler can have.
fn argument_types<'a>(signature: &'a Signature, mistakes: &mut Mistakes) -> Vec<&'a Type> {
    let mut types = Vec::new();
    for input in &signature.inputs {
        let argument = match input {
            FnArg::Receiver(receiver) => {
                let message = "a handler must not have a `self` argument: take its data as `State<S>`, or implement \
                               `Process<T>` for the type";
                Err(Error::new_spanned(receiver, message))
            }
            FnArg::Typed(argument) => check_type(&argument.ty).map(|()| &*argument.ty),
        };
        types.extend(mistakes.catch(argument));
    }
    types
}

fn check_type(ty: &Type) -> Result<()> {
    let message = match ty {
        Type::Reference(reference) => {
            let name = &reference.elem;
            format!(
                "a handler must take its arguments by value: write `{}`",
                quote!(#name)
            )
        }
        Type::ImplTrait(_) => {
            "`impl …` is not supported as an argument of a handler: write the concrete type".into()
        }
        _ => return Ok(()),
    };
    Err(Error::new_spanned(ty, message))
}

fn check_generics(signature: &Signature) -> Result<()> {
    if signature.generics.params.is_empty() {
        return Ok(());
    }
    let message = "a handler must not be generic: write the concrete types, and one handler for each type of task";
    Err(Error::new_spanned(&signature.generics, message))
}

fn check_async(signature: &Signature, options: &Options) -> Result<()> {
    let name = &signature.ident;
    match &signature.asyncness {
        Some(asyncness) if options.is_blocking => {
            let message = format!(
                "`blocking` requires a plain `fn`, registered with `.process_blocking({name})`: remove `blocking` or \
                 `async`"
            );
            Err(Error::new_spanned(asyncness, message))
        }
        None if !options.is_blocking && !may_be_future(&signature.output) => {
            let message = format!(
                "a handler must be async: write `async fn {name}(…)`; for a handler that blocks its thread, keep the \
                 plain `fn`, register it with `.process_blocking({name})` and use `#[process(blocking)]`"
            );
            Err(Error::new_spanned(signature.fn_token, message))
        }
        _ => Ok(()),
    }
}

/// Whether a function that is not async may still return a future.
fn may_be_future(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => false,
        ReturnType::Type(_, ty) => last_segment(ty).is_none_or(|(name, _)| name != "Result"),
    }
}

fn check_count(signature: &Signature, types: &[&Type]) -> Result<()> {
    let name = &signature.ident;
    if signature.inputs.is_empty() {
        let message = format!(
            "a handler must take its task: write `{name}(task: Payload<T>)`, where `T` is the type with \
             `#[derive(Task)]`"
        );
        return Err(Error::new(name.span(), message));
    }
    match types.get(MAX_ARGUMENTS) {
        None => Ok(()),
        Some(ninth) => {
            let message = format!(
                "a handler takes at most {MAX_ARGUMENTS} arguments: move some of them into a struct with \
                 `#[derive(FromState)]`"
            );
            Err(Error::new_spanned(ninth, message))
        }
    }
}

fn check_payloads(types: &[&Type]) -> Result<()> {
    match types.iter().filter(|ty| is_payload(ty)).nth(1) {
        None => Ok(()),
        Some(second) => {
            let message =
                "a handler takes exactly one `Payload<T>`: write one handler for each type of task";
            Err(Error::new_spanned(second, message))
        }
    }
}

fn return_type(signature: &Signature) -> Result<&Type> {
    match &signature.output {
        ReturnType::Type(_, ty) => Ok(ty),
        ReturnType::Default => {
            let message = "a handler must return a `Result`, such as `-> Result<(), TaskError>` for a task without \
                           output";
            Err(Error::new(signature.ident.span(), message))
        }
    }
}

/// The last segment of a type's path, and its generic arguments.
fn last_segment(ty: &Type) -> Option<(&Ident, &PathArguments)> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last()?;
    Some((&last.ident, &last.arguments))
}

fn is_payload(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|(name, _)| name == "Payload")
}

/// The `T` of `Payload<T>`.
fn task_of(ty: &Type) -> Option<&Type> {
    match last_segment(ty)? {
        (name, PathArguments::AngleBracketed(list)) if name == "Payload" => match list.args.first()
        {
            Some(GenericArgument::Type(task)) => Some(task),
            _ => None,
        },
        _ => None,
    }
}

/// A function with a valid signature, whose types remain to be checked.
struct Checks<'a> {
    options: &'a Options,
    signature: &'a Signature,
    types: Vec<&'a Type>,
    returned: &'a Type,
}

impl Checks<'_> {
    /// Expands to constants and closures, so that nothing is reported as unused and no name is taken.
    fn expand(&self) -> TokenStream {
        let (types, returned) = (&self.types, self.returned);
        let Some(task) = types.iter().find_map(|ty| task_of(ty)) else {
            // A payload may have another name.
            let place = self.signature.paren_token.span.join();
            let checked = self.checked_at(place);
            let check = quote_spanned! {place=>
                #checked::arguments::<_, (#(#types,)*), _, #returned>()
            };
            return quote!(const _: fn() = || #check;);
        };
        let arguments = types.iter().filter(|ty| !is_payload(ty)).map(|ty| {
            let checked = self.checked_at(ty.span());
            quote_spanned!(ty.span()=> #checked::argument::<#ty, _>();)
        });
        let returns_result = self.signature.asyncness.is_some() || self.options.is_blocking;
        let returned = returns_result.then(|| {
            let checked = self.checked_at(task.span());
            quote_spanned!(task.span()=> #checked::handler::<#task, #returned>();)
        });
        let future = self.expand_future(task);
        quote! {
            const _: fn() = || { #(#arguments)* #returned };
            #future
        }
    }

    /// Calls the function. A blocking one returns no future.
    fn expand_future(&self, task: &Type) -> TokenStream {
        if self.options.is_blocking {
            return TokenStream::new();
        }
        let (name, types) = (&self.signature.ident, &self.types);
        let checked = self.checked_at(name.span());
        let check = match self.signature.asyncness {
            Some(_) => quote_spanned!(name.span()=> #checked::future),
            None => quote_spanned!(name.span()=> #checked::returned_future::<#task, _>),
        };
        let arguments: Vec<_> = (0..types.len())
            .map(|n| format_ident!("argument_{n}"))
            .collect();
        let call = quote_spanned!(name.span()=> #check(#name(#(#arguments),*)));
        quote! {
            #[allow(deprecated)]
            const _: fn(#(#types),*) = |#(#arguments),*| #call;
        }
    }

    /// The path of the checks with the span of `place`, where the compiler reports their errors.
    fn checked_at(&self, place: Span) -> TokenStream {
        let krate = &self.options.krate;
        let path = quote!(#krate::__private::checked).into_iter();
        path.map(|mut token| {
            token.set_span(place);
            token
        })
        .collect()
    }
}
