//! Where a database is that a verb works on: its files, or a server.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use trellis::Config;

use crate::cli::failure::Failure;

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
    /// The server [env: TRELLIS_URL] [default: that of --config, else ws://127.0.0.1:4400/db]
    // Not by clap's `env`: one in the environment is no contradiction to a directory.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "profile", "kv", "log"])]
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
        let of_environment = || std::env::var("TRELLIS_URL").ok().filter(|url| !url.is_empty());
        match self.url.clone().or_else(of_environment) {
            Some(url) => Ok(url),
            None => address_of(&self.database),
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

/// The settings that these options, the environment and a file come to.
pub(super) fn builder(database: &Database) -> trellis::ConfigBuilder {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut builder = Config::builder().environment();
    if let Some(file) = &database.config {
        builder = builder.file(file);
    }
    builder
        .set_optional("data", database.data.as_deref().map(text))
        .set_optional("profile", database.profile.clone())
        .set_optional("kv", database.kv.clone())
        .set_optional("log", database.log.clone())
}

/// Where the server of these settings listens, as far as a configuration is named that says it.
pub(super) fn address_of(database: &Database) -> Result<String, Failure> {
    let server = match &database.config {
        Some(_) => builder(database).load()?.server,
        None => trellis::ServerConfig::default(),
    };
    if server.port == 0 {
        let message = "the configuration lets the system choose the port: name the server with \
                       --url, as its start-up lines say it";
        return Err(Failure::Usage(message.to_owned()));
    }
    let host = server.host.trim_start_matches('[').trim_end_matches(']');
    let host = match host.parse::<IpAddr>() {
        // It listens on every address; this machine's own is one of them.
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    Ok(format!("ws://{host}:{}/db", server.port))
}
