//! Memory of both ends, whole servers in processes of their own over a socket, while a new replica
//! is filled with 1,000,000 leaves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use trellis::Trellis;

use crate::Result;
use crate::measure::median;
use crate::process::{Server, node_config, status_kib};
use crate::replication_setting::{FIELDS, GROUP, Setting, load_documents, wait};
use crate::report::{Report, Row};
use crate::sockets::settled_kib;

/// An address at which nobody listens.
const NOBODY: &str = "ws://127.0.0.1:9/db";
const TARGET_MIB: f64 = 64.0;
/// Page cache and overlay as a small machine would have them.
const SMALL: &[&str] = &["--cache-mib", "16", "--overlay-mib", "8"];

pub(crate) fn run(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let documents = if setting.settings.quick { 1_000 } else { 100_000 };
    let hub_dir = setting.dir("hub");
    let db = Trellis::open_config(node_config(&hub_dir, None))?;
    load_documents(db.tree(), "documents", documents)?;
    db.close()?;
    for (name, settings) in [("", &[][..]), (", small caches", SMALL)] {
        filled(setting, documents * FIELDS, name, settings, report)?;
    }
    Ok(())
}

fn filled(
    setting: &Setting<'_>,
    leaves: usize,
    name: &str,
    settings: &[&str],
    report: &mut Report,
) -> Result<()> {
    let (hub_dir, replica_dir) = (setting.dir("hub"), setting.dir("replica"));
    let (mut hubs, mut replicas, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        setting.clear("replica")?;
        let idle = settled_kib(&Server::start_node(&replica_dir, Some(NOBODY), settings)?)?;
        setting.clear("replica")?;
        let hub = Server::start_node(&hub_dir, None, settings)?;
        let hub_idle = settled_kib(&hub)?;
        // Its peak from now on.
        std::fs::write(format!("/proc/{}/clear_refs", hub.pid()), "5")?;
        let begin = Instant::now();
        let url = format!("ws://127.0.0.1:{}/db", hub.port);
        let replica = Server::start_node(&replica_dir, Some(&url), settings)?;
        wait("the replica to be ready", || is_ready(replica.port))?;
        seconds.push(begin.elapsed().as_secs_f64());
        hubs.push((status_kib(hub.pid(), "VmHWM:")? - hub_idle) / 1024.0);
        replicas.push((status_kib(replica.pid(), "VmHWM:")? - idle) / 1024.0);
    }
    let per_second = leaves as f64 / median(&seconds);
    for (end, values) in [("the hub", &hubs), ("the replica", &replicas)] {
        let title = format!("most memory of {end} over idle, {leaves} leaves filled{name}");
        let row = Row::bound(GROUP, title, "MiB", values, Some(TARGET_MIB));
        report.push(row.note(format!("servers over a socket, {per_second:.0} leaves/s")));
    }
    Ok(())
}

/// Whether a server has everything of its upstream.
fn is_ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET /ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
