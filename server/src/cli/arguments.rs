//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::failure::Failure;

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

/// The database that a command opens itself.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Database {
    /// Directory of the data
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Settings, TOML or JSON
    #[arg(long, env = "TRELLIS_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Named set of engines: memory, embedded, single-file, edge, server
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// The store, such as redb:tree.redb
    #[arg(long, value_name = "URL")]
    pub(super) kv: Option<String>,
    /// The journal, such as segment:log
    #[arg(long, value_name = "URL")]
    pub(super) log: Option<String>,
}

/// Where a verb finds its tree: on a server, or in a directory that no server has open.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The server [default: that of --config, else ws://127.0.0.1:4400/db]
    #[arg(long, env = "TRELLIS_URL", value_name = "URL")]
    url: Option<String>,
    #[command(flatten, next_help_heading = "Instead of a server, on a closed database")]
    pub(super) database: Database,
}

/// A running server, for what only such a one can be asked.
#[derive(Debug, Clone, Args)]
pub(super) struct Running {
    /// The server [default: that of --config, else ws://127.0.0.1:4400/db]
    #[arg(long, env = "TRELLIS_URL", value_name = "URL")]
    url: Option<String>,
    /// The server's settings, TOML or JSON
    #[arg(long, env = "TRELLIS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// Whether it is a directory, and no server.
    pub(super) fn is_local(&self) -> bool {
        let Database { data, config: _, profile, kv, log } = &self.database;
        data.is_some() || profile.is_some() || kv.is_some() || log.is_some()
    }

    /// The address of the server.
    pub(super) fn url(&self) -> Result<String, Failure> {
        match &self.url {
            Some(url) => Ok(url.clone()),
            None => super::serve::address_of(&self.database),
        }
    }
}

impl Running {
    /// The address of the server.
    pub(super) fn url(&self) -> Result<String, Failure> {
        let database = Database { config: self.config.clone(), ..Database::default() };
        Place { url: self.url.clone(), database }.url()
    }
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) database: Database,
    /// The files, such as memory:
    #[arg(long, value_name = "URL")]
    pub(super) vfs: Option<String>,
    /// Port to listen on; 0 lets the system choose [default: 4400]
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long)]
    pub(super) host: Option<String>,
    /// Listen on other addresses than loopback although there are no rules: whoever reaches the
    /// port reads and writes everything
    #[arg(long)]
    pub(super) allow_unprotected_network: bool,
}

/// How a file holds a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON text
    Json,
    /// A line {"path":...,"value":...} for each leaf
    Ndjson,
}

impl Format {
    /// The format given, else the one that the file's extension names, else JSON.
    pub(super) fn of(given: Option<Self>, file: Option<&std::path::Path>) -> Self {
        let extension = file.and_then(|file| file.extension()).and_then(|name| name.to_str());
        match (given, extension) {
            (Some(format), _) => format,
            (None, Some("ndjson" | "jsonl")) => Self::Ndjson,
            (None, _) => Self::Json,
        }
    }
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
