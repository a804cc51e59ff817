//! Replication between trees on redb, in one process over links in memory: filling a new replica
//! beside a full sync of Redis, removing a large subtree, following, catching up.

use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use trellis_repl_loopback::LoopbackHub;
use trellis_runtime::Runtime;
use trellis_topology::{Node, NodeOptions, SessionOptions, SlotOptions, Topology, TopologySpec};
use trellis_tree::{
    ChangeEffect, Commit, Followed, Input, Leaf, Operation, Path, Tree, TreeOptions,
};

use crate::Result;
use crate::engine::{Kv, open_tree};
use crate::keys::Random;
use crate::load::settle_disk;
use crate::measure::{Client, Load, quantile};
use crate::redis::{Redis, free_port};
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "replication";
const DOCUMENTS: usize = 50_000;
const FIELDS: usize = 10;
/// Documents of one commit while loading.
const LOAD_DOCUMENTS: usize = 500;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(1);

/// A node on a tree of its own.
struct Member {
    tree: Tree,
    node: Node,
}

/// A hub, and how others reach it.
struct Setting<'a> {
    settings: &'a Settings,
    hub: LoopbackHub,
}

impl Setting<'_> {
    fn member(&self, name: &str, upstream: Option<&str>) -> Result<Member> {
        let spec = TopologySpec {
            role: if upstream.is_some() { "replica" } else { "primary" }.to_owned(),
            primary_url: upstream.map(|name| format!("loopback:{name}")),
            ..TopologySpec::default()
        };
        let topology = Arc::new(Topology::compile(&spec)?);
        let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
        let tree = open_tree(self.settings, Kv::Redb, &self.dir(name), options)?;
        let endpoint = Arc::new(self.hub.endpoint(name, Vec::new())?);
        let options = NodeOptions {
            name: name.to_owned(),
            tokens: std::collections::BTreeMap::new(),
            session: SessionOptions { page_items: 5_000, ..SessionOptions::default() },
            slots: SlotOptions::default(),
            links_max: 256,
            forward_wait: Duration::from_secs(10),
        };
        let node = Node::start(&tree, topology, endpoint, &Runtime::system(), options)?;
        Ok(Member { tree, node })
    }

    fn dir(&self, name: &str) -> std::path::PathBuf {
        self.settings.dir.join("replication").join(name)
    }

    fn fresh(&self, name: &str) -> Result<()> {
        let dir = self.dir(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        settle_disk(&self.settings.dir)
    }
}

impl Member {
    fn close(self) -> Result<()> {
        self.node.close();
        drop(self.node);
        Ok(self.tree.close()?)
    }

    /// Waits until everything of a hub is here, durably.
    fn await_level(&self, hub: &Tree) -> Result<()> {
        let goal = hub.position().rev;
        wait("the replica to be level", || {
            let status = self.node.status()?;
            let pull = status.links.first().and_then(|link| link.session.pull.clone());
            Ok(pull.is_some_and(|pull| pull.complete && pull.position >= goal))
        })
    }
}

fn wait(what: &str, mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_done()? {
        if begin.elapsed() > PATIENCE {
            return Err(format!("gave up waiting for {what}").into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let setting = Setting { settings, hub: LoopbackHub::new() };
    setting.fresh("")?;
    let hub = setting.member("hub", None)?;
    let documents = if settings.quick { 1_000 } else { DOCUMENTS };
    load_documents(&hub.tree, documents)?;
    bootstrap(&setting, &hub, documents, report)?;
    removal(&setting, &hub, report)?;
    followed(&setting, &hub, report)?;
    arrival(&setting, &hub, report)?;
    catch_up(&setting, &hub, report)?;
    hub.close()
}

fn load_documents(tree: &Tree, documents: usize) -> Result<()> {
    let mut random = Random::new(1);
    for from in (0..documents).step_by(LOAD_DOCUMENTS) {
        let updates = (from..documents.min(from + LOAD_DOCUMENTS)).map(|number| {
            let path = Path::parse(&format!("documents/{number:08}"))?;
            Ok((path, Input::parse(document(&mut random).as_bytes())?))
        });
        let updates = updates.collect::<Result<Vec<_>>>()?;
        tree.commit(Commit::new(vec![Operation::Update { updates, expiry: None }]))?;
    }
    Ok(())
}

fn document(random: &mut Random) -> String {
    let fields = (0..FIELDS).map(|field| format!("\"field{field}\":\"{:016x}\"", random.next()));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// A new replica, from nothing to complete and durable.
fn bootstrap(
    setting: &Setting<'_>,
    hub: &Member,
    documents: usize,
    report: &mut Report,
) -> Result<()> {
    let leaves = documents * FIELDS;
    let (mut rates, mut rivals) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        setting.fresh("replica")?;
        let begin = Instant::now();
        let replica = setting.member("replica", Some("hub"))?;
        replica.await_level(&hub.tree)?;
        rates.push(leaves as f64 / begin.elapsed().as_secs_f64());
        replica.close()?;
        if let Some(seconds) = redis_full_sync(&setting.dir("redis"), documents)? {
            rivals.push(leaves as f64 / seconds);
        }
    }
    let name = format!("a new replica of {documents} documents of {FIELDS} leaves");
    report.push(if rivals.is_empty() {
        Row::at_least(GROUP, name, "leaves/s", &rates, 0.0).note("no redis-server here")
    } else {
        Row::ratio(
            GROUP,
            name + " vs a full sync of Redis",
            "leaves/s",
            (&rates, &rivals),
            Some(0.33),
        )
    });
    Ok(())
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
fn removal(setting: &Setting<'_>, hub: &Member, report: &mut Report) -> Result<()> {
    let documents = if setting.settings.quick { 100 } else { 10_000 };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    setting.fresh("replica")?;
    let replica = setting.member("replica", Some("hub"))?;
    for _ in 0..setting.settings.rounds {
        let mut random = Random::new(3);
        for from in (0..documents).step_by(LOAD_DOCUMENTS) {
            let updates = (from..documents.min(from + LOAD_DOCUMENTS)).map(|number| {
                let path = Path::parse(&format!("large/{number:08}"))?;
                Ok((path, Input::parse(document(&mut random).as_bytes())?))
            });
            let updates = updates.collect::<Result<Vec<_>>>()?;
            hub.tree.commit(Commit::new(vec![Operation::Update { updates, expiry: None }]))?;
        }
        replica.await_level(&hub.tree)?;
        let begin = Instant::now();
        hub.tree.commit(Commit::delete(Path::parse("large")?))?;
        here.push(begin.elapsed().as_secs_f64() * 1000.0);
        replica.await_level(&hub.tree)?;
        there.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    replica.close()?;
    let leaves = documents * FIELDS;
    let name = format!("removing a subtree of {leaves} leaves");
    report.push(Row::bound(GROUP, name.clone(), "ms", &here, Some(200.0)));
    report.push(Row::bound(GROUP, name + ", until a replica has", "ms", &there, Some(700.0)));
    Ok(())
}

/// What ten followers cost the writers of their primary.
fn followed(setting: &Setting<'_>, hub: &Member, report: &mut Report) -> Result<()> {
    let (mut alone, mut with_ten) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        alone.push(writes(&hub.tree, setting.settings)?);
        let mut replicas = Vec::new();
        for number in 0..10 {
            let name = format!("replica-{number}");
            setting.fresh(&name)?;
            let replica = setting.member(&name, Some("hub"))?;
            replica.await_level(&hub.tree)?;
            replicas.push(replica);
        }
        with_ten.push(writes(&hub.tree, setting.settings)?);
        for replica in replicas {
            replica.await_level(&hub.tree)?;
            replica.close()?;
        }
    }
    let name = "8 writers, ten replicas on the same machine vs none";
    let row = Row::ratio(GROUP, name, "commits/s", (&with_ten, &alone), Some(0.7));
    report.push(row.note("the replicas' own work is on the same two cores"));
    Ok(())
}

fn writes(tree: &Tree, settings: &Settings) -> Result<f64> {
    let measured = Duration::from_millis(if settings.quick { 50 } else { 3_000 });
    let load = Load { threads: 8, warm_up: measured / 10, measured };
    let achieved = load.run(3, &|_| {
        Ok(Box::new(|random: &mut Random| {
            let path = Path::parse(&format!("written/{:05}", random.below(20_000)))?;
            let value = format!("\"{:016x}\"", random.next());
            tree.commit(Commit::set(path, Input::parse(value.as_bytes())?))?;
            Ok(())
        }) as Client<'_>)
    })?;
    Ok(achieved.per_second)
}

/// 3,000 writes a second with three replicas: from the write to its arrival.
fn arrival(setting: &Setting<'_>, hub: &Member, report: &mut Report) -> Result<()> {
    const EACH_SECOND: u32 = 3_000;
    let seconds = if setting.settings.quick { 1 } else { 20 };
    let mut replicas = Vec::new();
    for number in 0..3 {
        let name = format!("replica-{number}");
        setting.fresh(&name)?;
        let replica = setting.member(&name, Some("hub"))?;
        replica.await_level(&hub.tree)?;
        replicas.push(replica);
    }
    let origin = Instant::now();
    let count = EACH_SECOND * seconds;
    let late = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let watchers: Vec<_> = replicas
            .iter()
            .map(|replica| scope.spawn(|| watch(&replica.tree, origin, count as usize)))
            .collect();
        for number in 0..count {
            let due = Duration::from_secs(1) * number / EACH_SECOND;
            std::thread::sleep(due.saturating_sub(origin.elapsed()));
            let path = Path::parse(&format!("stamped/{}", number % 1_000))?;
            let value = origin.elapsed().as_micros().to_string();
            // Not waited for: the rate is what is asked for.
            drop(hub.tree.submit(Commit::set(path, Input::parse(value.as_bytes())?)));
        }
        let mut late = Vec::new();
        for watcher in watchers {
            late.extend(watcher.join().map_err(|_| "a watcher broke down")??);
        }
        Ok(late)
    })?;
    let name = format!("{EACH_SECOND} writes a second, three replicas, until there, p99");
    let p50 = quantile(&late, 0.5);
    let row = Row::bound(GROUP, name, "ms", &[quantile(&late, 0.99)], Some(250.0));
    report.push(row.note(format!("p50 {p50:.1}, {} arrivals in {seconds} s", late.len())));
    for replica in replicas {
        replica.close()?;
    }
    Ok(())
}

/// How late each write arrives, in milliseconds.
fn watch(tree: &Tree, origin: Instant, count: usize) -> Result<Vec<f64>> {
    let mut follower = tree.follow(64 << 20)?;
    let mut late = Vec::new();
    let begin = Instant::now();
    while late.len() < count && begin.elapsed() < PATIENCE {
        let Followed::Changes(changes) = follower.next(Duration::from_secs(1))? else { continue };
        let now = origin.elapsed().as_secs_f64() * 1000.0;
        for change in changes {
            for effect in change.effects() {
                let ChangeEffect::Put(key, stored) = effect else { continue };
                if !key.starts_with(b"stamped\0") {
                    continue;
                }
                let Leaf::Int(micros) = Leaf::decode(stored)? else { continue };
                late.push(now - micros as f64 / 1000.0);
            }
        }
    }
    Ok(late)
}

/// A replica that was away while much was written.
fn catch_up(setting: &Setting<'_>, hub: &Member, report: &mut Report) -> Result<()> {
    let documents = if setting.settings.quick { 200 } else { 20_000 };
    let mut rates = Vec::new();
    setting.fresh("replica")?;
    let replica = setting.member("replica", Some("hub"))?;
    replica.await_level(&hub.tree)?;
    replica.close()?;
    for _ in 0..setting.settings.rounds {
        let mut random = Random::new(7);
        for number in 0..documents {
            let path = Path::parse(&format!("missed/{number:08}"))?;
            let value = Input::parse(document(&mut random).as_bytes())?;
            drop(hub.tree.submit(Commit::set(path, value)));
        }
        hub.tree.flush()?;
        let begin = Instant::now();
        let replica = setting.member("replica", Some("hub"))?;
        replica.await_level(&hub.tree)?;
        rates.push((documents * FIELDS) as f64 / begin.elapsed().as_secs_f64());
        replica.close()?;
    }
    let name = format!("catching up with {documents} commits of {FIELDS} leaves");
    report.push(Row::at_least(GROUP, name, "leaves/s", &rates, 20_000.0));
    Ok(())
}
