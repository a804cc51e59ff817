//! What a verb prints.

use std::io::Write;

use crate::cli::failure::Failure;

pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").map_err(|error| Failure::io("standard output", &error))
}
