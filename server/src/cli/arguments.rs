//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::place::{Format, Place, Serve};

/// A realtime JSON tree on the storage you choose.
#[derive(Debug, Parser)]
#[command(name = "trellis", version, max_term_width = 100)]
pub(super) struct Arguments {
    /// What to log to standard error: error, warn, info, debug, trace, or a filter such as
    /// `info,trellis_tree=debug`; RUST_LOG overrides it
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve a database over WebSocket and HTTP
    Serve(Serve),
    /// Print the JSON value at a path
    Get {
        /// Path such as users/u1; empty for everything
        path: String,
        #[command(flatten)]
        place: Place,
    },
    /// Replace the value at a path
    Set {
        /// Path such as users/u1
        path: String,
        /// JSON text, @FILE, or - for standard input
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Let the value vanish after so many seconds
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<f64>,
        #[command(flatten)]
        place: Place,
    },
    /// Set many paths in one commit
    Update {
        /// A JSON object of path to value, @FILE, or - for standard input
        updates: String,
        #[command(flatten)]
        place: Place,
    },
    /// Remove the value at a path
    Delete {
        /// Path such as users/u1
        path: String,
        #[command(flatten)]
        place: Place,
    },
    /// Add a child under a new, time-ordered id, and print the id
    Push {
        /// Path such as events; the new child's id begins with -
        path: String,
        /// JSON text, @FILE, or - for standard input
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Let the child vanish after so many seconds
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<f64>,
        #[command(flatten)]
        place: Place,
    },
    /// Print the children of a path, one JSON line each
    Children {
        /// Path such as users; empty for the root
        path: String,
        /// Begin after this key
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        after: Option<String>,
        /// Print at most so many; all by default
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        /// Print the values too
        #[arg(long)]
        values: bool,
        #[command(flatten)]
        place: Place,
    },
    Query(super::live::Query),
    Watch(super::live::Watch),
    /// Read a file of any size into the tree, leaf by leaf (not one commit; a later leaf wins)
    Import {
        /// A file, or - for standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Put everything below this path
        #[arg(long, default_value = "", value_name = "PATH")]
        path: String,
        /// What the file holds; by default its extension says it
        #[arg(long)]
        format: Option<Format>,
        #[command(flatten)]
        place: Place,
    },
    /// Write a subtree of any size, as of one commit
    Export {
        /// Only what is below this path
        #[arg(long, default_value = "", value_name = "PATH")]
        path: String,
        /// One JSON text, or a line for each leaf; by default the output's extension says it
        #[arg(long)]
        format: Option<Format>,
        /// A file instead of standard output; it appears when it is whole
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    Backup(super::operators::Backup),
    Restore(super::operators::Restore),
    Migrate(super::operators::Migrate),
    Verify(super::operators::Verify),
    Check(super::operators::Check),
    Compact(super::operators::Compact),
    Rebuild(super::operators::Rebuild),
    Index(super::indexes::Index),
    Repl(super::replication::Repl),
    /// Print the figures of a server or a database
    Stats {
        #[command(flatten)]
        place: Place,
    },
    /// Print the completion script of a shell
    Completion {
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }
}
