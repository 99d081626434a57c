//! Talk for people, always on standard error.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes a line. A reader that went away must not end a run: `eprintln!` would panic.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `eprintln!` that does not panic when nobody listens.
macro_rules! say {
    ($($part:tt)*) => { $crate::talk::line(format_args!($($part)*)) };
}
pub(crate) use say;
