//! The code that `#[derive(Task)]` generates.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Ident, Path};

use super::arguments::Arguments;

/// How long a result is kept unless `retention` is set: one hour, in milliseconds.
const RESULT_RETENTION: u64 = 60 * 60 * 1_000;

impl Arguments {
    /// The implementation of `Task` for `task`, and the registration of its handler.
    ///
    /// Every path is absolute, so that names in the user's module cannot shadow it.
    pub(super) fn expand(&self, task: &Ident, krate: &Path) -> TokenStream {
        let event = self
            .event
            .as_ref()
            .map_or_else(|| quote!(""), |name| quote!(#name));
        let output = self
            .output
            .as_ref()
            .map_or_else(|| quote!(()), |ty| quote!(#ty));
        let codec = self
            .codec
            .as_ref()
            .map_or_else(|| quote!(#krate::codec::MessagePack), |ty| quote!(#ty));
        let options = self.expand_options(krate);
        let unique_key = self
            .unique
            .as_ref()
            .and_then(|unique| unique.expand_key(krate));
        let registration = self.expand_registration(task, krate);
        quote! {
            #[automatically_derived]
            impl #krate::task::Task for #task {
                const EVENT: &'static str = #event;
                type Output = #output;
                type Codec = #codec;
                #options
                #unique_key
            }
            #registration
        }
    }

    /// `Task::options`. `None` if all options have their default, which the framework allocates once for all tasks.
    fn expand_options(&self, krate: &Path) -> Option<TokenStream> {
        let settings = self.expand_settings(krate);
        if settings.is_empty() {
            return None;
        }
        Some(quote! {
            fn options() -> ::std::sync::Arc<#krate::task::TaskOptions> {
                static OPTIONS: ::std::sync::LazyLock<::std::sync::Arc<#krate::task::TaskOptions>> =
                    ::std::sync::LazyLock::new(|| {
                        let mut options =
                            <#krate::task::TaskOptions as ::core::default::Default>::default();
                        #(options.#settings;)*
                        ::std::sync::Arc::new(options)
                    });
                ::std::sync::Arc::clone(&OPTIONS)
            }
        })
    }

    /// An assignment for each given option.
    fn expand_settings(&self, krate: &Path) -> Vec<TokenStream> {
        let some = |value: TokenStream| quote!(::core::option::Option::Some(#value));
        let name = |name| quote!(#krate::task::Name::from_static(#name));
        let millis = |millis: u64| quote!(::core::time::Duration::from_millis(#millis));
        let retention = self
            .retention
            .or(self.output.as_ref().map(|_| RESULT_RETENTION));
        let unique = self.unique.as_ref().map(|unique| unique.expand(krate));
        let aggregate = (self.aggregate.as_ref()).map(|aggregate| aggregate.expand(krate));
        let settings = [
            ("queue", self.queue.as_ref().map(name)),
            ("max_retry", self.max_retry.map(|number| quote!(#number))),
            ("timeout", self.timeout.map(millis)),
            ("deadline", self.deadline.map(millis).map(some)),
            (
                "backoff",
                self.backoff.as_ref().map(|backoff| backoff.expand(krate)),
            ),
            ("unique", unique.map(some)),
            ("retention", retention.map(millis)),
            ("priority", self.priority.map(|number| quote!(#number))),
            ("group", self.group.as_ref().map(name).map(some)),
            ("aggregate", aggregate.map(some)),
        ];
        settings
            .into_iter()
            .filter_map(|(option, value)| {
                let option = Ident::new(option, proc_macro2::Span::call_site());
                value.map(|value| quote!(#option = #value))
            })
            .collect()
    }

    fn expand_registration(&self, task: &Ident, krate: &Path) -> Option<TokenStream> {
        let process = self.process.as_ref()?;
        Some(quote! {
            #krate::__private::inventory::submit! {
                #krate::registry::Registration::new::<#task, #process>()
            }
        })
    }
}
