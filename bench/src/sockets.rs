//! Gets through WebSocket against an echo server on the same stack: 64 connections with one
//! request in flight each, and with 16; and what an idle connection costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use trellis::Trellis;

use crate::Result;
use crate::engine;
use crate::keys::Random;
use crate::load::once;
use crate::process::Server;
use crate::report::{Report, Row};
use crate::settings::{Serve, Settings};
use crate::socket_client::Connection;

const GROUP: &str = "sockets";
const CONNECTIONS: usize = 64;
const IN_FLIGHT: usize = 16;
const TARGET: f64 = 0.7;
const TARGET_PIPELINED: f64 = 2.0;
/// Idle connections for the memory of one.
const IDLE_CONNECTIONS: usize = 2_000;
const TARGET_IDLE_KIB: f64 = 16.0;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let data = loaded_database(settings)?;
    let echo = Server::start(Serve::Echo, &settings.dir)?;
    let trellis = Server::start(Serve::Trellis, &data)?;
    let time = Duration::from_millis(if settings.quick { 200 } else { 3_000 });
    let mut echo_side = Side::open(&echo, settings.keys)?;
    let mut trellis_side = Side::open(&trellis, settings.keys)?;
    // Wakes both, and reads most pages once.
    echo_side.rate(time, 1)?;
    trellis_side.rate(time, 1)?;
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..settings.rounds {
        let [echo_one, trellis_one, echo_many, trellis_many] = &mut rates;
        echo_one.push(echo_side.rate(time, 1)?);
        trellis_one.push(trellis_side.rate(time, 1)?);
        echo_many.push(echo_side.rate(time, IN_FLIGHT)?);
        trellis_many.push(trellis_side.rate(time, IN_FLIGHT)?);
    }
    let [echo_one, trellis_one, echo_many, trellis_many] = &rates;
    let name = format!("{CONNECTIONS} connections, 1 in flight, vs echo");
    report.push(Row::ratio(GROUP, name, "gets/s", (trellis_one, echo_one), Some(TARGET)));
    let name = format!("{CONNECTIONS} connections, {IN_FLIGHT} in flight, vs own 1 in flight");
    let both = (&**trellis_many, &**trellis_one);
    report.push(Row::ratio(GROUP, name, "gets/s", both, Some(TARGET_PIPELINED)));
    let name = format!("{CONNECTIONS} connections, {IN_FLIGHT} in flight, vs echo");
    report.push(Row::ratio(GROUP, name, "gets/s", (trellis_many, echo_many), None));
    drop((echo_side, trellis_side));
    let note = format!("echo server: {:.1} KiB", idle_kib(&echo, settings)?);
    let idle = idle_kib(&trellis, settings)?;
    let row = Row::bound(GROUP, "idle connection", "KiB", &[idle], Some(TARGET_IDLE_KIB));
    report.push(row.note(note));
    Ok(())
}

/// The directory of a server's database with all keys in it.
pub(crate) fn loaded_database(settings: &Settings) -> Result<PathBuf> {
    let dir = settings.dir.join(format!("server-{}", settings.keys));
    let data = dir.join("data");
    once(&dir, || {
        let db = Trellis::open(&data)?;
        engine::load(db.tree(), settings.keys)?;
        Ok(db.close()?)
    })?;
    Ok(data)
}

/// The clients of one server.
struct Side {
    connections: Vec<Connection>,
    random: Random,
    keys: usize,
}

impl Side {
    fn open(server: &Server, keys: usize) -> Result<Self> {
        let connections = (0..CONNECTIONS).map(|_| Connection::open(server.port));
        let connections = connections.collect::<Result<Vec<_>>>()?;
        Ok(Self { connections, random: Random::new(5), keys })
    }

    /// Answers a second with so many requests of each connection on their way at any time. One
    /// thread goes round the connections: whatever answers one has, as many requests follow.
    fn rate(&mut self, time: Duration, in_flight: usize) -> Result<f64> {
        for connection in &mut self.connections {
            connection.send(in_flight, self.keys, &mut self.random)?;
        }
        let begin = Instant::now();
        let mut answers = 0;
        while begin.elapsed() < time {
            for connection in &mut self.connections {
                let received = connection.receive()?;
                connection.send(received, self.keys, &mut self.random)?;
                answers += received;
            }
        }
        let rate = answers as f64 / begin.elapsed().as_secs_f64();
        for connection in &mut self.connections {
            let mut left = in_flight;
            while left > 0 {
                left -= connection.receive()?;
            }
        }
        Ok(rate)
    }
}

/// Memory of a connection that has made one get and then none.
fn idle_kib(server: &Server, settings: &Settings) -> Result<f64> {
    let count = if settings.quick { 100 } else { IDLE_CONNECTIONS };
    let mut random = Random::new(6);
    let before = settled_kib(server)?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(server.port)?;
        connection.send(1, settings.keys, &mut random)?;
        while connection.receive()? == 0 {}
        connections.push(connection);
    }
    Ok((settled_kib(server)? - before) / count as f64)
}

/// Resident memory once it no longer changes.
pub(crate) fn settled_kib(server: &Server) -> Result<f64> {
    let mut last = server.resident_kib()?;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(250));
        let now = server.resident_kib()?;
        if (now - last).abs() < 16.0 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
