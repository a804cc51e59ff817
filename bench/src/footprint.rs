//! The release binary `trellis`: how soon it answers after it was started, and what it takes while
//! nobody asks; on an empty database and on the loaded one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::process::Server;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::sockets::{loaded_database, settled_kib};

const GROUP: &str = "footprint";
const TARGET_MIB: f64 = 40.0;
const TARGET_SECONDS: f64 = 0.3;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    settings.check_binary()?;
    let empty = settings.dir.join("footprint");
    let loaded = loaded_database(settings)?;
    for (name, dir) in [("new database", &empty), ("loaded database", &loaded)] {
        let (mut seconds, mut mib) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            if empty.exists() {
                std::fs::remove_dir_all(&empty)?;
            }
            let (server, took) = start(settings, dir)?;
            seconds.push(took);
            mib.push(settled_kib(&server)? / 1024.0);
        }
        let title = format!("start to first answer, {name}");
        report.push(Row::bound(GROUP, title, "s", &seconds, Some(TARGET_SECONDS)));
        let title = format!("resident while idle, {name}");
        report.push(Row::bound(GROUP, title, "MiB", &mib, Some(TARGET_MIB)));
    }
    Ok(())
}

fn start(settings: &Settings, dir: &Path) -> Result<(Server, f64)> {
    let begin = Instant::now();
    let mut child = Command::new(&settings.trellis)
        .args(["serve", "--port", "0", "--data"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the server has no output")?;
    let mut server = Server::of(child, 0);
    for line in BufReader::new(stdout).lines() {
        if let Some(port) = port_of(&line?) {
            server.port = port;
            break;
        }
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
        server.port
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(format!("not healthy: {answer}").into());
    }
    Ok((server, begin.elapsed().as_secs_f64()))
}

/// The port in `listening on ws://127.0.0.1:4400/db ...`.
fn port_of(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("ws://127.0.0.1:")?;
    rest.split('/').next()?.parse().ok()
}
