//! `trellis serve`, and what every command needs of its process: settings, logging.

use std::io::{IsTerminal as _, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, lookup_host};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use trellis::{Config, Runtime, Trellis};

use crate::cli::failure::Failure;
use crate::cli::place::{Serve, builder};
use crate::guard::check_listen_address;
use crate::listen::serve_on;
use crate::options::ServerOptions;
use crate::state::Server;

/// Serves until the process is told to stop.
pub(super) async fn run(serve: Serve, log_level: Option<&str>) -> Result<(), Failure> {
    let mut builder = builder(&serve.database)
        .set_optional("vfs", serve.vfs)
        .set_optional("server.port", serve.port)
        .set_optional("server.host", serve.host)
        .set_optional("log_level", log_level);
    if serve.allow_unprotected_network {
        builder = builder.set("server.allow_unprotected_network", true);
    }
    let config = builder.load()?.with_engines_of_data()?;
    start_logging(&config.log_level)?;
    let options = ServerOptions::from(&config.server);
    let listener = listen(&config, &options).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::io("the listening socket has no address", &error))?;
    let runtime = Runtime::system();
    let own = Arc::clone(&runtime);
    let db = runtime.run(move || Trellis::open_with(config, own)).await?;
    announce(&db, address, &options)?;
    let entrance = db.peer_entrance();
    let mut server = Server::new(db, options);
    if let Some(entrance) = entrance {
        server = server.with_peers(entrance);
    }
    serve_on(listener, server, asked_to_stop()).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn listen(config: &Config, options: &ServerOptions) -> Result<TcpListener, Failure> {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = lookup_host((name, port))
        .await
        .map_err(|error| Failure::failed(format!("{host} is no address to listen on: {error}")))?
        .collect();
    for address in &addresses {
        check_listen_address(*address, options)?;
    }
    TcpListener::bind(addresses.as_slice()).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {host}:{port}: {error}; choose another with --port"
        ))
    })
}

/// The start-up lines. They are read by people and by whoever started the process with port 0.
fn announce(db: &Trellis, address: SocketAddr, options: &ServerOptions) -> Result<(), Failure> {
    let rev = db.tree().stats()?.rev;
    let protection = match (options.allow_unprotected_network, address.ip().is_loopback()) {
        (_, true) => "no rules: this machine only",
        (_, false) => "NO RULES: whoever reaches this address reads and writes everything",
    };
    let description = db.describe();
    let text = format!(
        "{description}\nprofile {}, rev {rev}\n\
         listening on ws://{address}/db and http://{address}/db ({protection})\n",
        description.profile
    );
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Nobody has to read the lines for the server to serve.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| Failure::io("standard output", &error)),
    }
}

/// Opens a database for a verb, off the executor: it may replay a journal. It is no node meanwhile.
pub(super) async fn open(config: Config) -> Result<Trellis, Failure> {
    Ok(Runtime::system().run(move || Trellis::open_alone(config)).await?)
}

/// Logs to standard error from now on.
pub(super) fn start_logging(level: &str) -> Result<(), Failure> {
    let (filter, is_level) = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => (filter, false),
        _ => (level.to_owned(), true),
    };
    let no_level = |why: &dyn std::fmt::Display| {
        Failure::Usage(format!("{filter:?} is no log level: {why}; use e.g. info or debug"))
    };
    // A filter takes a lone word for the name of a module, and then nothing else is logged. The
    // environment may mean that, and may be about other programs too.
    let is_word = !filter.contains(['=', ',', '[', ':']);
    if is_level
        && is_word
        && let Err(error) = filter.parse::<LevelFilter>()
    {
        return Err(no_level(&error));
    }
    let filter = EnvFilter::try_new(&filter).map_err(|error| no_level(&error))?;
    // Only the first call of a process takes effect.
    let _is_first = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// Resolves at SIGINT or SIGTERM.
async fn asked_to_stop() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "SIGINT cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => tokio::select! {
                () = interrupted => {}
                _ = terminated.recv() => {}
            },
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be heard");
                interrupted.await;
            }
        }
    }
    #[cfg(not(unix))]
    interrupted.await;
}
