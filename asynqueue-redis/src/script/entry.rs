//! Turns an entry of the [table](super::table) into types, and into the local variables in Lua.

/// Files of functions that scripts share, each with the keys that it uses.
macro_rules! shared {
    ($($name:ident $(: $($key:ident)+)?;)*) => {
        mod shared {
            $(
                #[allow(non_upper_case_globals)]
                pub(super) static $name: super::source::Shared = super::source::Shared {
                    keys: &[$($(stringify!($key)),+)?],
                    code: include_str!(concat!("../scripts/shared/", stringify!($name), ".lua")),
                };
            )*
        }
    };
}

/// A module for each script: `Args`, a struct for each kind of row, and `call`, which starts a call.
macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident {
        $(shared: $($shared:ident)+;)?
        keys $(of $set:ident)?: $($key:ident)* $(.. $rest:ident)?;
        $(args: $($arg:ident)+;)?
        $(row $row:ident: $($field:ident)+;)*
    })*) => {
        $(
            $(#[$doc])*
            #[allow(non_camel_case_types)]
            pub(crate) mod $name {
                use super::*;

                /// Stands for the script in types.
                pub(crate) enum Of {}

                pub(super) static SOURCE: Source = Source {
                    name: stringify!($name),
                    shared: &[$($(&super::shared::$shared),+)?],
                    keys: &[$(stringify!($key)),*],
                    rest: [$(Some(stringify!($rest)),)? None][0],
                    args: &[$($(stringify!($arg)),+)?],
                    rows: &[$(source::Row {
                        name: stringify!($row),
                        fields: &[$(stringify!($field)),+],
                    }),*],
                    body: include_str!(concat!("../scripts/", stringify!($name), ".lua")),
                };

                static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&SOURCE));

                pub(crate) struct Args<$($($arg),+)?> {
                    $($(pub(crate) $arg: $arg,)+)?
                }

                impl<$($($arg: ToRedisArgs),+)?> Args<$($($arg),+)?> {
                    fn write(self, _command: &mut Cmd) {
                        $($(push(_command, self.$arg);)+)?
                    }
                }

                $(
                    pub(crate) struct $row<$($field),+> {
                        $(pub(crate) $field: $field,)+
                    }

                    impl<$($field: ToRedisArgs),+> super::super::Row<Of> for $row<$($field),+> {
                        fn write(self, command: &mut Cmd) {
                            $(push(command, self.$field);)+
                        }
                    }
                )*

                call! { [$($set)?] [$($key)*] [$($rest)?] [$($($arg)+)?] }
            }
        )*

        /// All scripts, for tests.
        #[cfg(test)]
        pub(super) static ALL: &[&Source] = &[$(&$name::SOURCE),*];
    };
}

/// The function that starts a call: with the keys of a queue or of schedules, with keys by name, or with any number of
/// additional keys.
macro_rules! call {
    ([$set:ident] [$($key:ident)*] [] [$($arg:ident)*]) => {
        pub(crate) fn call<$($arg: ToRedisArgs),*>(keys: &$set, args: Args<$($arg),*>) -> Call<Of> {
            let mut call = Call::begin(&SCRIPT, SOURCE.keys.len());
            $(push(&mut call.command, &keys.$key);)*
            args.write(&mut call.command);
            call
        }
    };
    ([] [$($key:ident)*] [] [$($arg:ident)*]) => {
        pub(crate) struct Keys<'a> {
            $(pub(crate) $key: &'a str,)*
        }

        pub(crate) fn call<$($arg: ToRedisArgs),*>(keys: Keys<'_>, args: Args<$($arg),*>) -> Call<Of> {
            let mut call = Call::begin(&SCRIPT, SOURCE.keys.len());
            $(push(&mut call.command, keys.$key);)*
            args.write(&mut call.command);
            call
        }
    };
    ([] [$($key:ident)*] [$rest:ident] [$($arg:ident)*]) => {
        pub(crate) struct Keys<'a> {
            $(pub(crate) $key: &'a str,)*
            pub(crate) $rest: &'a [&'a str],
        }

        pub(crate) fn call<$($arg: ToRedisArgs),*>(keys: Keys<'_>, args: Args<$($arg),*>) -> Call<Of> {
            let mut call = Call::begin(&SCRIPT, SOURCE.keys.len() + keys.$rest.len());
            $(push(&mut call.command, keys.$key);)*
            call.command.arg(keys.$rest);
            args.write(&mut call.command);
            call
        }
    };
}
