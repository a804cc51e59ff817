//! The command line: `serve`, and verbs that work on a server or on a closed database.
//!
//! Invariants: exit code 0 for success, 1 for an error, 2 for a command line that makes no sense
//! (what checks or compares: 1 for what it found, 2 when it could not);
//! results go to standard output, everything else to standard error; an error says what to do.
//!
//! A doorway for the binary of this package, not an interface of the library.

mod arguments;
mod batcher;
mod copies;
mod export;
mod failure;
mod import;
mod indexes;
mod live;
mod operators;
mod output;
mod place;
mod progress;
mod remote;
mod replication;
mod replication_closed;
mod replication_text;
mod serve;
mod target;
mod upkeep;
mod verbs;
mod walk;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use failure::Failure;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(arguments));
    // A reader of standard input may be blocked for ever; do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let level = arguments.log_level;
    match arguments.command {
        Command::Serve(serve) => serve::run(serve, level.as_deref()).await,
        Command::Completion { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "trellis", &mut std::io::stdout());
            Ok(())
        }
        verb => {
            serve::start_logging(level.as_deref().unwrap_or("warn"))?;
            verbs::run(verb).await
        }
    }
}
