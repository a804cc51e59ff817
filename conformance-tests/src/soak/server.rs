//! The server: a child process that is killed and started again on the same database.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use trellis::{Config, Trellis};
use trellis_server::ServerOptions;

use super::stage::lock;
use crate::child::say;

/// The database of a run: the whole journal stays, and little waits before it goes to the store.
pub(super) fn config(dir: &Path, engines: &str) -> Config {
    let (store, log) = engines.split_once('+').expect("store+log");
    let store = store.trim_start_matches("kv-");
    let mut config = Config::in_directory(dir.join("served"));
    config.kv = Some(format!("{store}:store.{store}"));
    config.log = Some(if log == "log-kv" { "kv:" } else { "segment:log" }.to_owned());
    config.tree.journal_retain_bytes = u64::MAX >> 1;
    config.tree.journal_retain_age = Duration::from_secs(86_400);
    config.tree.overlay_bytes_max = 1 << 20;
    config.tree.apply_after = Duration::from_millis(50);
    config
}

/// The child's side: serves the database until it is killed.
pub(super) fn serve(engines: &str, dir: &Path) {
    std::thread::spawn(|| {
        // The parent is gone, however it ended.
        let mut nothing = Vec::new();
        let _end = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(0);
    });
    let config = config(dir, engines);
    let options = ServerOptions::from(&config.server);
    let db = Trellis::open_config(config).expect("the database opens");
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    executor.expect("an executor").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        say(&listener.local_addr().expect("an address").port().to_string());
        let stop = std::future::pending();
        trellis_server::serve(listener, db, options, stop).await.expect("it serves");
    });
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Where it listens, while it does.
    port: Option<u16>,
    is_over: bool,
}

/// The server as its clients find it.
#[derive(Debug, Default)]
pub(super) struct Server {
    state: Mutex<State>,
    bell: Condvar,
}

impl Server {
    /// Starts a child, and waits until it listens.
    pub(super) fn start(&self, mut command: Command) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the child starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("the child's output can be read");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        let mut state = lock(&self.state);
        state.child = Some(child);
        state.port = Some(port);
        drop(state);
        self.bell.notify_all();
    }

    /// Kills it, whatever it does.
    pub(super) fn kill(&self) {
        let mut state = lock(&self.state);
        state.port = None;
        if let Some(mut child) = state.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child has ended");
        }
    }

    /// Where it listens; waits while it does not. `None` when the run is over.
    pub(super) fn port(&self) -> Option<u16> {
        let mut state = lock(&self.state);
        loop {
            match state.port {
                _ if state.is_over => return None,
                Some(port) => return Some(port),
                None => state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
        self.bell.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
