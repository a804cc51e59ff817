//! A node: who it is, its process, and its configuration.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpListener;
use trellis::{Config, Trellis};
use trellis_server::{Server, ServerOptions};

use crate::child::say;

/// What every link shows; there are no other machines here.
const TOKEN: &str = "token-of-the-nodes-of-a-run";
const CONFIGURATION: &str = "trellis.toml";

/// A node as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// The URL of its store.
    store: &'static str,
    /// Whom it dials, by its place among [`NODES`].
    pub(super) upstream: Option<usize>,
}

pub(super) const HUB: usize = 0;

/// Whoever is dialed comes before those who dial it.
pub(super) const NODES: [Plan; 5] = [
    Plan { name: "hub", store: "redb:tree.redb", upstream: None },
    Plan { name: "relay", store: "redb:tree.redb", upstream: Some(HUB) },
    Plan { name: "edge-sqlite", store: "sqlite:tree.sqlite", upstream: Some(HUB) },
    Plan { name: "edge-sled", store: "sled:tree.sled", upstream: Some(HUB) },
    Plan { name: "edge-far", store: "redb:tree.redb", upstream: Some(1) },
];

impl Plan {
    /// Whether its reports go to the hub.
    pub(super) fn reports(self) -> bool {
        self.upstream == Some(HUB)
    }

    /// Its configuration: without replication, or with that and where its upstream is, if any.
    fn configuration(self, replication: Option<Option<SocketAddr>>) -> String {
        let mut text = format!("kv = {:?}\nlog = \"segment:log\"\n", self.store);
        let Some(upstream) = replication else { return text };
        text.push_str("\n[replication]\nrole = \"primary\"\n");
        // At the hub `shared` is written by whom it is granted to.
        let mut paths = Vec::new();
        if let Some(upstream) = upstream {
            writeln!(text, "primaryUrl = \"ws://{upstream}/db\"\ntoken = \"{TOKEN}\"").unwrap();
            paths.push(r#"{ path = "shared", mode = "sync" }"#.to_owned());
            paths.push(r#"{ path = "central", mode = "replica" }"#.to_owned());
        }
        if self.reports() {
            let name = self.name;
            paths.push(format!(r#"{{ path = "reports/{name}", mode = "writeonly" }}"#));
        }
        writeln!(text, "paths = [{}]", paths.join(", ")).unwrap();
        let is_dialed = NODES
            .iter()
            .any(|node| node.upstream.is_some_and(|upstream| NODES[upstream].name == self.name));
        if is_dialed {
            let reports = if self.upstream.is_none() { ", \"reports\"" } else { "" };
            write!(
                text,
                "\n[[replication.peers]]\nrole = \"edge\"\ntoken = \"{TOKEN}\"\n\
                 pull = [\"shared\", \"central\"]\npush = [\"shared\"{reports}]\nmerge = \"lww\"\n"
            )
            .unwrap();
        }
        text
    }
}

/// The child's side.
pub(crate) fn serve(dir: &Path) {
    std::thread::spawn(|| {
        // The parent is gone, however it ended.
        let mut nothing = Vec::new();
        let _end = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(0);
    });
    let config = Config::builder().file(dir.join(CONFIGURATION)).set("data", text(dir)).load();
    let config = config.expect("a good configuration");
    let options = ServerOptions::from(&config.server);
    let db = Trellis::open_config(config).expect("the database opens");
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    executor.expect("an executor").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        say(&listener.local_addr().expect("an address").to_string());
        let entrance = db.peer_entrance();
        let mut server = Server::new(db, options);
        if let Some(entrance) = entrance {
            server = server.with_peers(entrance);
        }
        let stop = std::future::pending();
        trellis_server::serve_on(listener, server, stop).await.expect("it serves");
    });
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of text").to_owned()
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    address: Option<SocketAddr>,
}

/// A node of a run, up or down.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) plan: Plan,
    dir: PathBuf,
    state: Mutex<State>,
}

impl Node {
    /// Prepares its directory; nothing runs yet.
    pub(super) fn new(plan: Plan, dir: &Path, replication: Option<Option<SocketAddr>>) -> Self {
        let dir = dir.join(plan.name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let configuration = plan.configuration(replication);
        std::fs::write(dir.join(CONFIGURATION), configuration).expect("a configuration");
        Self { plan, dir, state: Mutex::default() }
    }

    /// Starts it, with a command for a child; answers where it listens.
    pub(super) fn start(&self, command: impl Fn(&Path) -> Command) -> SocketAddr {
        let mut command = command(&self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the child starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("the child's output can be read");
        let name = self.plan.name;
        let address = line.trim().parse();
        let address = address.unwrap_or_else(|_| panic!("{name} did not start: {line:?}"));
        let mut state = self.state();
        state.child = Some(child);
        state.address = Some(address);
        address
    }

    /// Kills it, whatever it does; answers whether it was up.
    pub(super) fn kill(&self) -> bool {
        let mut state = self.state();
        state.address = None;
        let Some(mut child) = state.child.take() else { return false };
        let ended = child.try_wait().expect("the child can be asked");
        assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.plan.name);
        child.kill().expect("the child can be killed");
        child.wait().expect("the child has ended");
        true
    }

    /// Where it listens, while it is up.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.state().address
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.state().child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
