//! Backtraces for readers: the frames of the program, apart from those of libraries.

/// A frame of a backtrace: its function, and its place if it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) lines: Vec<&'a str>,
    /// Whether it belongs to the program and not to a library.
    pub(super) is_own: bool,
}

/// Crates that programs use with this framework, for backtraces without places.
const LIBRARIES: [&str; 24] = [
    "std",
    "core",
    "alloc",
    "test",
    "proc_macro",
    "backtrace",
    "backtrace_rs",
    "tokio",
    "futures",
    "futures_util",
    "futures_core",
    "futures_executor",
    "tower",
    "tower_layer",
    "tower_service",
    "tracing",
    "tracing_core",
    "hyper",
    "axum",
    "sqlx",
    "sqlx_core",
    "redis",
    "tokio_postgres",
    "parking_lot",
];

/// Functions outside of any crate.
const WITHOUT_CRATE: [&str; 11] = [
    "main",
    "_main",
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "start_thread",
    "__clone",
    "clone",
    "clone3",
    "rust_begin_unwind",
    "<unknown>",
];

/// The frames of a backtrace as the standard library prints it. Empty for other text.
pub(super) fn frames(backtrace: &str) -> Vec<Frame<'_>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for line in backtrace.lines() {
        if function_of(line).is_some() {
            let frame = Frame {
                lines: vec![line],
                is_own: false,
            };
            frames.push(frame);
        } else if let Some(frame) = frames.last_mut() {
            frame.lines.push(line);
        }
    }
    for frame in &mut frames {
        frame.is_own = is_own(&frame.lines);
    }
    frames
}

/// The function in a line such as `  12: shop::charge`.
fn function_of(line: &str) -> Option<&str> {
    let (number, function) = line.split_once(": ")?;
    let is_number = number
        .trim_start()
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    (is_number && !number.trim_start().is_empty()).then(|| function.trim())
}

fn is_own(lines: &[&str]) -> bool {
    let function = lines.first().and_then(|line| function_of(line));
    let place = lines
        .iter()
        .find_map(|line| line.trim_start().strip_prefix("at "));
    let is_of_library = |place: &str| {
        let place = place.replace('\\', "/");
        [
            "/rustc/",
            "/.cargo/registry/",
            "/.cargo/git/",
            "/library/std/",
            "/library/core/",
            "/library/alloc/",
            // Wherever a program has this framework from.
            "/asynqueue-core/src/",
        ]
        .iter()
        .any(|part| place.contains(part))
    };
    function.is_some_and(|function| !is_library(function)) && !place.is_some_and(is_of_library)
}

/// Whether a function belongs to a known library, by the crate in its path.
fn is_library(function: &str) -> bool {
    if WITHOUT_CRATE.contains(&function)
        || function.starts_with("__rust_")
        || function.starts_with("_R")
    {
        return true;
    }
    // A method of a trait: the type decides, as in `<shop::Charge as asynqueue_core::Process>::process`.
    let path = function.trim_start_matches(['<', '&', '(', '*']);
    let path = path.trim_start_matches("dyn ").trim_start_matches("mut ");
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = &path[..end.unwrap_or(path.len())];
    // A type parameter such as `F` is of a library.
    let is_parameter = name.len() <= 2 && name.starts_with(|c: char| c.is_uppercase());
    name.is_empty() || is_parameter || name.starts_with("asynqueue") || LIBRARIES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "   0: std::backtrace_rs::backtrace::libunwind::trace
             at /rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/../../backtrace/src/backtrace/libunwind.rs:117:9
   1: asynqueue_core::layer::catch_panic::remember
             at /home/ada/.cargo/registry/src/index.crates.io-1/asynqueue-core-0.1.0/src/layer/catch_panic.rs:30:5
   2: core::panicking::panic_fmt
             at /rustc/59807616/library/core/src/panicking.rs:75:14
   3: shop::charge::{{closure}}
             at ./src/charge.rs:12:9
   4: <shop::bank::Client as serde::Serialize>::serialize
             at /home/ada/shop/src/bank.rs:7:1
   5: <core::pin::Pin<P> as core::future::future::Future>::poll
   6: odd_library::run
             at /home/ada/.cargo/git/checkouts/odd-1/src/lib.rs:1:1
   7: <F as tower::Service>::call
   8: __libc_start_main";

    fn own(backtrace: &str) -> Vec<&str> {
        let frames = frames(backtrace).into_iter().filter(|frame| frame.is_own);
        frames.map(|frame| frame.lines[0].trim()).collect()
    }

    #[test]
    fn frames_of_the_program_are_recognized_by_their_place_and_crate() {
        assert_eq!(frames(PANIC).len(), 9);
        assert_eq!(
            own(PANIC),
            [
                "3: shop::charge::{{closure}}",
                "4: <shop::bank::Client as serde::Serialize>::serialize"
            ]
        );
    }

    #[test]
    fn other_text_has_no_frames() {
        assert!(frames("disabled backtrace").is_empty());
        assert!(frames("").is_empty());
    }

    /// A captured backtrace, in the format of this toolchain.
    #[test]
    fn a_real_backtrace_has_frames() {
        let captured = std::backtrace::Backtrace::force_capture().to_string();
        let frames = frames(&captured);
        assert!(frames.len() > 3, "{captured}");
        assert!(frames.iter().any(|frame| !frame.is_own));
    }
}
