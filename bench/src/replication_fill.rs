//! Filling a new replica, beside a full sync of Redis and a replication of PouchDB; and removing a
//! large subtree, here and at a replica.

use std::io::ErrorKind;
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use trellis_tree::{Commit, Path};

use crate::Result;
use crate::keys::Random;
use crate::measure::median;
use crate::process::processor_seconds;
use crate::redis::{Redis, free_port};
use crate::replication_setting::{DOCUMENTS, FIELDS, GROUP, Member, Setting, load_documents, wait};
use crate::report::{Report, Row};

/// What is run beside it, where PouchDB is installed.
const POUCHDB: &str = include_str!("../pouchdb.mjs");

/// A hub with documents in it, and leaves a second at which a new replica of it is filled, until it
/// is complete and durable.
struct Filled<'a> {
    setting: &'a Setting<'a>,
    hub: Member,
    documents: usize,
    /// What a leaf took of the processors, at both ends, in each round.
    micros: Vec<f64>,
}

impl<'a> Filled<'a> {
    fn new(setting: &'a Setting<'a>) -> Result<Self> {
        let hub = setting.new_member("hub", None)?;
        let documents = if setting.settings.quick { 1_000 } else { DOCUMENTS };
        load_documents(&hub.tree, "documents", documents)?;
        hub.tree.flush()?;
        Ok(Self { setting, hub, documents, micros: Vec::new() })
    }

    fn rate(&mut self) -> Result<f64> {
        self.setting.clear("replica")?;
        let before = processor_seconds(std::process::id())?;
        let begin = Instant::now();
        let replica = self.setting.member("replica", Some("hub"))?;
        replica.await_level(&self.hub.tree)?;
        let seconds = begin.elapsed().as_secs_f64();
        self.micros.push((processor_seconds(std::process::id())? - before) * 1e6 / self.leaves());
        replica.close()?;
        Ok(self.leaves() / seconds)
    }

    fn note(&self) -> String {
        format!("{:.1} us of the processors a leaf, both ends", median(&self.micros))
    }

    fn leaves(&self) -> f64 {
        (self.documents * FIELDS) as f64
    }

    fn name(&self) -> String {
        format!("a new replica of {} documents of {FIELDS} leaves", self.documents)
    }
}

pub(crate) fn bootstrap(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let mut filled = Filled::new(setting)?;
    let (mut rates, mut rivals) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        rates.push(filled.rate()?);
        if let Some(seconds) = redis_full_sync(&setting.dir("redis"), filled.documents)? {
            rivals.push(filled.leaves() / seconds);
        }
    }
    report.push(if rivals.is_empty() {
        Row::at_least(GROUP, filled.name(), "leaves/s", &rates, 0.0)
            .note(filled.note() + "; no redis-server here")
    } else {
        let name = filled.name() + " vs a full sync of Redis";
        Row::ratio(GROUP, name, "leaves/s", (&rates, &rivals), Some(0.33)).note(filled.note())
    });
    filled.hub.close()
}

pub(crate) fn beside_pouchdb(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let Some(installed) = &setting.settings.pouchdb else {
        eprintln!("left out: --pouchdb names no directory with PouchDB");
        return Ok(());
    };
    let mut filled = Filled::new(setting)?;
    let (mut rates, mut rivals) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        rates.push(filled.rate()?);
        let seconds = pouchdb_replication(installed, &setting.dir("pouchdb"), filled.documents)?;
        rivals.push(filled.leaves() / seconds);
    }
    let name = filled.name() + " vs PouchDB";
    let row = Row::ratio(GROUP, name, "leaves/s", (&rates, &rivals), Some(10.0));
    report.push(row.note(filled.note()));
    filled.hub.close()
}

/// Seconds in which PouchDB replicates as many documents from a server of its own.
fn pouchdb_replication(installed: &FilePath, dir: &FilePath, documents: usize) -> Result<f64> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let script = installed.join("trellis-bench.mjs");
    std::fs::write(&script, POUCHDB)?;
    let ran = Command::new("node")
        .args([&script, dir])
        .args([documents.to_string(), FIELDS.to_string()])
        .stderr(Stdio::inherit())
        .output();
    let output = match ran {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("PouchDB needs `node`, which is not installed".into());
        }
        output => output?,
    };
    let told = String::from_utf8(output.stdout)?;
    told.trim().parse().map_err(|_| format!("PouchDB told no time: {told}").into())
}

/// Seconds in which a new Redis replica takes over as many hashes; `None` when none is installed.
fn redis_full_sync(dir: &FilePath, documents: usize) -> Result<Option<f64>> {
    let Some(redis) = Redis::start(dir, 0)? else { return Ok(None) };
    let mut random = Random::new(1);
    redis.load_hashes(documents, FIELDS, &mut random)?;
    let replica_dir = dir.join("replica");
    std::fs::create_dir_all(&replica_dir)?;
    let begin = Instant::now();
    let port = free_port()?;
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--replicaof", "127.0.0.1", &redis.port().to_string(), "--dir"])
        .arg(&replica_dir)
        .stdout(Stdio::null())
        .spawn()?;
    let _ended = Ended(child);
    wait("the Redis replica", || Ok(Redis::count_at(port).is_ok_and(|keys| keys == documents)))?;
    Ok(Some(begin.elapsed().as_secs_f64()))
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A subtree of 100,000 leaves is removed: here, and until it is gone at a replica.
pub(crate) fn removal(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let documents = if setting.settings.quick { 100 } else { 10_000 };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let hub = setting.new_member("hub", None)?;
    let replica = setting.new_member("replica", Some("hub"))?;
    for _ in 0..setting.settings.rounds {
        load_documents(&hub.tree, "large", documents)?;
        replica.await_level(&hub.tree)?;
        let begin = Instant::now();
        hub.tree.commit(Commit::delete(Path::parse("large")?))?;
        here.push(begin.elapsed().as_secs_f64() * 1000.0);
        replica.await_level(&hub.tree)?;
        there.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    replica.close()?;
    hub.close()?;
    let leaves = documents * FIELDS;
    let name = format!("removing a subtree of {leaves} leaves");
    report.push(Row::bound(GROUP, name.clone(), "ms", &here, Some(200.0)));
    report.push(Row::bound(GROUP, name + ", until a replica has", "ms", &there, Some(700.0)));
    Ok(())
}
