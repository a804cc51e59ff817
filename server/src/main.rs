//! The `trellis` command; what it does is in `trellis_server::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trellis_server::cli::main()
}
