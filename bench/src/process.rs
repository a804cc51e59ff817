//! Servers in processes of their own: this program as one of them, and what is seen from outside.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::net::TcpListener;
use trellis::{Config, ReplicationConfig, Trellis};
use trellis_server::{Server as Serving, ServerOptions};

use crate::Result;
use crate::settings::{Arguments, Serve};

/// Listens, tells the port on standard output, and serves until standard input ends.
pub(crate) fn run_server<F>(serve: impl FnOnce(TcpListener) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    std::thread::spawn(|| {
        // The parent is gone, however it ended.
        let mut nothing = Vec::new();
        let _end = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        serve(listener).await
    })
}

/// The whole server on the database in `--dir`.
pub(crate) fn serve_trellis(arguments: &Arguments) -> Result<()> {
    let dir = arguments.dir.as_ref().ok_or("--serve trellis needs --dir")?;
    let db = Trellis::open(dir)?;
    run_server(async |listener| {
        let stop = std::future::pending();
        Ok(trellis_server::serve(listener, db, ServerOptions::default(), stop).await?)
    })
}

/// A whole server that follows `--upstream`, or is followed.
pub(crate) fn serve_node(arguments: &Arguments) -> Result<()> {
    let dir = arguments.dir.as_ref().ok_or("--serve node needs --dir")?;
    let mut config = node_config(dir, arguments.upstream.clone());
    if let Some(mib) = arguments.overlay_mib {
        config.tree.overlay_bytes_max = mib << 20;
    }
    if let Some(mib) = arguments.cache_mib {
        config.cache_bytes = Some(mib << 20);
    }
    let db = Trellis::open_config(config)?;
    run_server(async |listener| {
        let stop = std::future::pending();
        let entrance = db.peer_entrance().ok_or("a node without an entrance for its peers")?;
        let server = Serving::new(db, ServerOptions::default()).with_peers(entrance);
        Ok(trellis_server::serve_on(listener, server, stop).await?)
    })
}

/// A database whose every path is its own, or an upstream's.
pub(crate) fn node_config(dir: &Path, upstream: Option<String>) -> Config {
    let role = if upstream.is_some() { "replica" } else { "primary" }.to_owned();
    let replication =
        ReplicationConfig { role, primary_url: upstream, ..ReplicationConfig::default() };
    Config { replication: Some(replication), ..Config::in_directory(dir) }
}

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Its end tells the server to end.
    _stdin: Option<ChildStdin>,
    pub(crate) port: u16,
}

impl Server {
    /// Starts this program as one of its servers and waits until it listens.
    pub(crate) fn start(kind: Serve, dir: &Path) -> Result<Self> {
        let name = match kind {
            Serve::Echo => "echo",
            Serve::Broadcast => "broadcast",
            Serve::Trellis => "trellis",
            Serve::Node => "node",
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", name, "--dir"]).arg(dir);
        Self::spawn(command)
    }

    /// Starts a whole server that follows an upstream, or is followed.
    pub(crate) fn start_node(
        dir: &Path,
        upstream: Option<&str>,
        settings: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", "node", "--dir"]).arg(dir).args(settings);
        if let Some(upstream) = upstream {
            command.args(["--upstream", upstream]);
        }
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut server = Self { child, _stdin: stdin, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        server.port = line.trim().parse().map_err(|_| "the server told no port")?;
        Ok(server)
    }

    /// Takes over a child that listens on a port.
    pub(crate) fn of(child: Child, port: u16) -> Self {
        Self { child, _stdin: None, port }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<f64> {
        status_kib(self.child.id(), "VmRSS:")
    }
}

/// The most memory that a process ever had resident, in KiB.
pub(crate) fn peak_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmHWM:")
}

/// Seconds of the processors that a process has used, in hundredths.
pub(crate) fn processor_seconds(pid: u32) -> Result<f64> {
    seconds_in(Path::new(&format!("/proc/{pid}/stat")))
}

/// The same of this one's threads of one name, as far as they are there.
pub(crate) fn thread_seconds(name: &str) -> Result<f64> {
    let mut seconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        // It may have ended meanwhile.
        let named = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        if named.trim_end() == name {
            seconds += seconds_in(&thread.join("stat"))?;
        }
    }
    Ok(seconds)
}

fn seconds_in(stat: &Path) -> Result<f64> {
    /// Linux counts in hundredths of a second here, whatever its own clock does.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(stat)?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in the status of a process")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().ok_or("no such field")?.parse()?) };
    Ok((ticks()? + ticks()?) / TICKS_A_SECOND)
}

/// A field of a process's status.
pub(crate) fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
    Ok(kib.parse()?)
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}
