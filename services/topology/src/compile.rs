//! From what an operator writes to zones: every mistake is refused with its key and a remedy.

use std::collections::HashMap;

use bytes::Bytes;
use trellis_tree::{Endings, Path, Tracking};

use crate::plan::{DialPlan, ZONES_MAX};
use crate::spec::{Mode, PeerSpec, SourceSpec, TopologyError, TopologySpec};
use crate::topology::{Grant, Merge, SourcePlan, Topology};
use crate::zones::{Entry, Kind, Zones, covers, is_below, written};

/// Entries of each list at most.
const LIST_MAX: usize = 1_000;
/// Sources at most: each is a link of its own.
const SOURCES_MAX: usize = 64;
/// Letters of a source's id at most.
const ID_LETTERS_MAX: usize = 40;
/// The system's own: never replicated. Leases hang on connections of their node, and indexes are
/// made where they are read.
pub(crate) const SYSTEM: [&str; 7] =
    ["_auth/server", "_auth/sessions", "_indexes", "_leases", "_mq", "_repl", "_streams"];
/// Not replicated unless a rule of its own says so.
const AUTH: &str = "_auth";
/// Consumed where they were issued.
const NONCES: &str = "_auth/nonces";

type Result<T, E = TopologyError> = std::result::Result<T, E>;

fn error<T>(
    key: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Result<T> {
    Err(TopologyError::new(key, message, remedy))
}

/// Reads a path.
fn path(key: &str, text: &str) -> Result<Bytes> {
    let text = if text == "/" { "" } else { text };
    match Path::parse(text) {
        Ok(path) => Ok(path.key().clone()),
        Err(fault) => {
            error(key, fault.message(), "write a path such as a/b, without outer slashes")
        }
    }
}

/// Zones as they are gathered, each with the key that made it.
#[derive(Default)]
struct Gathered {
    kinds: Vec<(Bytes, Kind)>,
    keys: HashMap<Bytes, String>,
    excluded: Vec<Bytes>,
}

impl Gathered {
    fn add(&mut self, prefix: Bytes, kind: Kind, key: String) {
        self.keys.insert(prefix.clone(), key);
        self.kinds.push((prefix, kind));
    }

    /// Adds a rule; refused where no rule can be.
    fn rule(&mut self, prefix: Bytes, kind: Kind, key: &str) -> Result<()> {
        let text = written(&prefix);
        self.refuse_private(&prefix, key)?;
        if let Some(other) = self.keys.get(&prefix) {
            let message = format!("{text} has a rule already, at {other}");
            return error(key, message, "keep one of the two");
        }
        self.add(prefix, kind, key.to_owned());
        Ok(())
    }

    /// Refuses a prefix in what is never replicated.
    fn refuse_private(&self, prefix: &[u8], key: &str) -> Result<()> {
        let text = written(prefix);
        if let Some(system) = SYSTEM.iter().find(|system| covers(&system_key(system), prefix)) {
            let message = format!("{text} lies in {system}, which is the system's own");
            return error(key, message, "leave it out: it is never replicated");
        }
        if let Some(excluded) = self.excluded.iter().find(|excluded| covers(excluded, prefix)) {
            let message =
                format!("{text} lies in {}, which excludePrefixes excludes", written(excluded));
            return error(key, message, "take one of the two away");
        }
        Ok(())
    }
}

fn system_key(path: &str) -> Vec<u8> {
    path.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect()
}

fn refuse_many(key: &str, count: usize, count_max: usize) -> Result<()> {
    if count <= count_max {
        return Ok(());
    }
    error(key, format!("{count} entries, at most {count_max} are possible"), "take fewer")
}

impl Topology {
    /// Checks a configuration and settles the zones.
    ///
    /// # Errors
    /// The first mistake, with its key and a remedy: an unknown word, no path, a duplicate prefix,
    /// a rule inside an excluded prefix or the system's own, destinations of sources that overlap,
    /// a mode that needs an upstream without one, a remap that runs in circles, too many entries.
    ///
    /// ```
    /// use trellis_topology::{Mode, PathSpec, Topology, TopologySpec};
    ///
    /// let mut spec = TopologySpec { paths: vec!["config".into()], ..TopologySpec::default() };
    /// let refused = Topology::compile(&spec).unwrap_err();
    /// assert_eq!(refused.key, "replication.paths[0].mode");
    /// spec.primary_url = Some("ws://central:4400/db".into());
    /// let topology = Topology::compile(&spec)?;
    /// assert_eq!(topology.mode(b"config\0a"), Some(Mode::Sync));
    /// # Ok::<(), trellis_topology::TopologyError>(())
    /// ```
    pub fn compile(spec: &TopologySpec) -> Result<Self> {
        refuse_many("replication.paths", spec.paths.len(), LIST_MAX)?;
        refuse_many("replication.excludePrefixes", spec.exclude_prefixes.len(), LIST_MAX)?;
        refuse_many("replication.sources", spec.sources.len(), SOURCES_MAX)?;
        let role = role(spec)?;
        let proxy = match spec.write_proxy.as_str() {
            "proxy" => true,
            "reject" => false,
            other => {
                let message = format!("{other} is no way to treat writes");
                return error("replication.writeProxy", message, "write proxy or reject");
            }
        };
        let mut gathered = Gathered::default();
        exclusions(spec, &mut gathered)?;
        rules(spec, &mut gathered)?;
        let sources = sources(spec, &mut gathered)?;
        let grants = grants(spec, &mut gathered)?;
        defaults(&mut gathered, role);
        let kinds = std::mem::take(&mut gathered.kinds);
        let mut zones = Zones::new(kinds, spec.primary_url.is_some());
        refuse_circles(spec, &zones, &sources)?;
        if let Some(grants) = &grants {
            check_grants(&zones, grants)?;
        }
        zones.track(|entry| kept(entry, grants.as_deref()));
        let compiled = Self::new(spec.primary_url.clone(), proxy, zones, sources, grants);
        compiled.check_dials().map(|()| compiled)
    }

    /// Refuses a link over which more is to be named than the other end takes.
    fn check_dials(&self) -> Result<()> {
        for dial in self.dials() {
            let DialPlan { link, pull, push } = &dial.plan;
            let named =
                link.pull.as_ref().map_or(0, |pull| pull.parts.len().max(pull.except.len()));
            let named = named.max(pull.len()).max(push.len());
            if named > ZONES_MAX {
                let source = self.sources.iter().position(|source| *source.id == *dial.id);
                let key = match source {
                    Some(at) => format!("replication.sources[{at}].paths"),
                    None => "replication.paths".to_owned(),
                };
                let message = format!(
                    "{named} paths and exceptions from them would be named to the other node, \
                     which takes {ZONES_MAX}"
                );
                return error(key, message, "take fewer, or put them below common paths");
            }
        }
        Ok(())
    }
}

fn role(spec: &TopologySpec) -> Result<Mode> {
    if let Some(url) = &spec.primary_url
        && url.is_empty()
    {
        return error("replication.primaryUrl", "it is empty", "name the upstream or leave it out");
    }
    match spec.role.as_str() {
        "primary" => Ok(Mode::Primary),
        "replica" if spec.primary_url.is_some() => Ok(Mode::Replica),
        "replica" => {
            error("replication.role", "a replica needs an upstream", "set replication.primaryUrl")
        }
        other => {
            let message = format!("{other} is no role");
            error("replication.role", message, "write primary or replica")
        }
    }
}

fn exclusions(spec: &TopologySpec, gathered: &mut Gathered) -> Result<()> {
    for (at, text) in spec.exclude_prefixes.iter().enumerate() {
        let key = format!("replication.excludePrefixes[{at}]");
        let prefix = path(&key, text)?;
        if prefix.is_empty() {
            let remedy = "leave replication out, or exclude the paths that are meant";
            return error(key, "it excludes everything", remedy);
        }
        if gathered.excluded.contains(&prefix) {
            return error(key, format!("{} stands twice", written(&prefix)), "keep one of the two");
        }
        gathered.excluded.push(prefix);
    }
    for (at, prefix) in gathered.excluded.clone().into_iter().enumerate() {
        let within_another = gathered.excluded.iter().any(|other| is_below(&prefix, other));
        let system = SYSTEM.iter().any(|system| covers(&system_key(system), &prefix));
        if !within_another && !system {
            gathered.add(prefix, Kind::Excluded, format!("replication.excludePrefixes[{at}]"));
        }
    }
    Ok(())
}

fn rules(spec: &TopologySpec, gathered: &mut Gathered) -> Result<()> {
    for (at, rule) in spec.paths.iter().enumerate() {
        let key = format!("replication.paths[{at}].path");
        let prefix = path(&key, &rule.path)?;
        let mode_key = format!("replication.paths[{at}].mode");
        let Some(mode) = Mode::of(&rule.mode) else {
            let message = format!("{} is no mode", rule.mode);
            let remedy = "write primary, replica, sync, readonly or writeonly";
            return error(mode_key, message, remedy);
        };
        if mode != Mode::Primary && spec.primary_url.is_none() {
            let message = format!("{mode} needs an upstream");
            let remedy = "set replication.primaryUrl; at a hub write primary, and grant peers what \
                          they may push";
            return error(mode_key, message, remedy);
        }
        gathered.rule(prefix, Kind::Rule(mode), &key)?;
    }
    Ok(())
}

fn sources(spec: &TopologySpec, gathered: &mut Gathered) -> Result<Vec<SourcePlan>> {
    let mut plans: Vec<SourcePlan> = Vec::new();
    let mut destinations: Vec<(Bytes, String)> = Vec::new();
    for (at, source) in spec.sources.iter().enumerate() {
        let plan = source_plan(&format!("replication.sources[{at}]"), source)?;
        if plans.iter().any(|other| other.id == plan.id) {
            let key = format!("replication.sources[{at}].id");
            return error(key, format!("{} stands twice", plan.id), "give each source its own id");
        }
        if let Some(other) = plans.iter().find(|other| other.takes_the_same(&plan)) {
            let key = format!("replication.sources[{at}].paths");
            let message = format!("the source {} takes the same of the same node", other.id);
            return error(key, message, "leave one of the two out: a node takes one such link");
        }
        for (place, remote) in plan.paths.iter().enumerate() {
            let key = format!("replication.sources[{at}].paths[{place}]");
            let local = crate::remap::prefixed(&plan.local_prefix, remote);
            if local.is_empty() {
                let remedy = format!("set replication.sources[{at}].localPrefix");
                return error(key, "all of a source cannot be kept as all of this node", remedy);
            }
            let other = destinations
                .iter()
                .find(|(other, _)| covers(other, &local) || covers(&local, other));
            if let Some((_, other)) = other {
                let message =
                    format!("its destination {} overlaps that of {other}", written(&local));
                return error(key, message, "set another localPrefix, or leave one of them out");
            }
            gathered.rule(local.clone(), Kind::Source(at), &key)?;
            destinations.push((local, key));
        }
        plans.push(plan);
    }
    Ok(plans)
}

fn source_plan(key: &str, source: &SourceSpec) -> Result<SourcePlan> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let letters = 1..=ID_LETTERS_MAX;
    let reserved = source.id == crate::topology::UPSTREAM;
    if reserved || !letters.contains(&source.id.len()) || !source.id.bytes().all(allowed) {
        let remedy = "write 1 to 40 letters, digits, - and _, but not upstream";
        return error(format!("{key}.id"), "it is no id", remedy);
    }
    if source.url.is_empty() {
        return error(format!("{key}.url"), "it is missing", "name the node that is followed");
    }
    if source.paths.is_empty() {
        let remedy = "name what is taken from the source; / is all of it";
        return error(format!("{key}.paths"), "it names no path", remedy);
    }
    refuse_many(&format!("{key}.paths"), source.paths.len(), LIST_MAX)?;
    refuse_many(&format!("{key}.excludePrefixes"), source.exclude_prefixes.len(), LIST_MAX)?;
    let read = |list: &str, texts: &[String]| {
        let one = |(at, text): (usize, &String)| path(&format!("{key}.{list}[{at}]"), text);
        texts.iter().enumerate().map(one).collect::<Result<Vec<_>>>()
    };
    let mut paths = read("paths", &source.paths)?;
    let except = read("excludePrefixes", &source.exclude_prefixes)?;
    for (at, excluded) in except.iter().enumerate() {
        if !paths.iter().any(|path| is_below(excluded, path)) {
            let message = format!("{} is not below a path of the source", written(excluded));
            let remedy = "name something below one of its paths";
            return error(format!("{key}.excludePrefixes[{at}]"), message, remedy);
        }
    }
    paths.sort_unstable();
    let local_prefix = path(&format!("{key}.localPrefix"), &source.local_prefix)?;
    Ok(SourcePlan { id: source.id.clone(), url: source.url.clone(), paths, except, local_prefix })
}

fn grants(spec: &TopologySpec, gathered: &mut Gathered) -> Result<Option<Vec<Grant>>> {
    let Some(peers) = &spec.peers else { return Ok(None) };
    refuse_many("replication.peers", peers.len(), LIST_MAX)?;
    let mut grants = Vec::new();
    for (at, peer) in peers.iter().enumerate() {
        let key = format!("replication.peers[{at}]");
        let grant = grant(&key, peer)?;
        let named = [(&grant.pull, "pull"), (&grant.push, "push")];
        for (prefixes, list) in named {
            for (place, prefix) in prefixes.iter().enumerate() {
                gathered.refuse_private(prefix, &format!("{key}.{list}[{place}]"))?;
            }
        }
        if grant.merge == Merge::Owner {
            for (place, prefix) in grant.push.iter().enumerate() {
                let key = format!("{key}.push[{place}]");
                if prefix.is_empty() {
                    return error(key, "a peer cannot own all", "name the paths that it owns");
                }
                gathered.rule(prefix.clone(), Kind::Owned(at), &key)?;
            }
        }
        grants.push(grant);
    }
    Ok(Some(grants))
}

fn grant(key: &str, peer: &PeerSpec) -> Result<Grant> {
    let merge = match peer.merge.as_str() {
        "lww" => Merge::Lww,
        "owner" if peer.node.is_some() => Merge::Owner,
        "owner" => {
            let message = "owner without a node: several peers would own the same";
            return error(format!("{key}.merge"), message, "set node, or write lww");
        }
        other => {
            let message = format!("{other} is no way to merge");
            return error(format!("{key}.merge"), message, "write lww or owner");
        }
    };
    if peer.node.is_some() && peer.role.is_some() {
        let message = "both node and role are set";
        return error(format!("{key}.role"), message, "make two entries of it");
    }
    let read = |list: &str, texts: &[String]| {
        refuse_many(&format!("{key}.{list}"), texts.len(), LIST_MAX)?;
        let one = |(at, text): (usize, &String)| path(&format!("{key}.{list}[{at}]"), text);
        texts.iter().enumerate().map(one).collect::<Result<Vec<_>>>()
    };
    Ok(Grant {
        node: peer.node.clone(),
        role: peer.role.clone(),
        pull: read("pull", &peer.pull)?,
        push: read("push", &peer.push)?,
        merge,
        forward: peer.forward,
    })
}

/// The zones that are there without being asked for.
fn defaults(gathered: &mut Gathered, role: Mode) {
    let absent =
        |gathered: &Gathered, path: &str| !gathered.keys.contains_key(&system_key(path)[..]);
    for system in SYSTEM {
        let key = Bytes::from(system_key(system));
        gathered.add(key, Kind::System, "the system".to_owned());
    }
    let auth_excluded = gathered.excluded.iter().any(|excluded| covers(excluded, AUTH.as_bytes()));
    if absent(gathered, AUTH) && !auth_excluded {
        gathered.add(AUTH.into(), Kind::Excluded, "the default".to_owned());
    }
    let nonces = system_key(NONCES);
    let excluded = gathered.excluded.iter().any(|excluded| covers(excluded, &nonces));
    if absent(gathered, NONCES) && !excluded {
        gathered.add(nonces.into(), Kind::Nonces, "the system".to_owned());
    }
    if absent(gathered, "") {
        gathered.add(Bytes::new(), Kind::Role(role), "replication.role".to_owned());
    }
}

/// Refuses a source whose data would come back to it, and from there again.
fn refuse_circles(spec: &TopologySpec, zones: &Zones, sources: &[SourcePlan]) -> Result<()> {
    for (at, source) in sources.iter().enumerate() {
        if Some(&source.url) != spec.primary_url.as_ref() {
            continue;
        }
        for remote in &source.paths {
            let local = crate::remap::prefixed(&source.local_prefix, remote);
            if zones.at(&local).is_some_and(|entry| entry.pushed) {
                let message = format!(
                    "what is taken to {} goes back to the same node, for it lies in a path that \
                     is pushed to it",
                    written(&local)
                );
                let remedy = "set a localPrefix outside of what is pushed";
                return error(format!("replication.sources[{at}].localPrefix"), message, remedy);
            }
        }
    }
    Ok(())
}

/// Refuses grants of what nobody can be granted.
fn check_grants(zones: &Zones, grants: &[Grant]) -> Result<()> {
    for (at, grant) in grants.iter().enumerate() {
        let lists = [(&grant.pull, "pull"), (&grant.push, "push")];
        for (prefixes, list) in lists {
            for (place, prefix) in prefixes.iter().enumerate() {
                let key = format!("replication.peers[{at}].{list}[{place}]");
                let kind = zones.of(prefix).map_or(Kind::Excluded, |entry| entry.kind);
                let text = written(prefix);
                if kind.is_private() {
                    let remedy = format!(
                        "add a rule {{ path: {text}, mode: primary }}, or take the grant away"
                    );
                    return error(key, format!("{text} is excluded by default"), remedy);
                }
                let owned = kind == Kind::Owned(at);
                if list == "push" && !kind.is_written_here() && !owned {
                    let message = format!("{text} is {} here: nobody may push it", kind.word());
                    let remedy = "take the grant away; writes to a replica are forwarded anyway";
                    return error(key, message, remedy);
                }
            }
        }
        let mut pushed = grant.push.clone();
        pushed.sort_unstable();
        if pushed.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            let key = format!("replication.peers[{at}].push");
            return error(key, "a path stands twice", "keep one of the two");
        }
    }
    Ok(())
}

/// How a zone is kept: stamped where somebody may replicate it.
fn kept(entry: &Entry, grants: Option<&[Grant]>) -> (Tracking, Endings) {
    let touches = |prefixes: &[Bytes]| {
        prefixes.iter().any(|prefix| covers(prefix, &entry.prefix) || covers(&entry.prefix, prefix))
    };
    let named = |prefixes: &[Bytes]| prefixes.iter().any(|prefix| covers(&entry.prefix, prefix));
    let pulled = grants.is_none_or(|grants| grants.iter().any(|grant| touches(&grant.pull)));
    let pulled_by_name = grants.unwrap_or_default().iter().any(|grant| named(&grant.pull));
    let merged = |grant: &Grant| grant.merge == Merge::Lww && touches(&grant.push);
    let merged = grants.unwrap_or_default().iter().any(merged);
    match entry.kind {
        Kind::System | Kind::Excluded => (Tracking::None, Endings::Here),
        Kind::Nonces if pulled_by_name => (Tracking::Owned, Endings::Here),
        Kind::Nonces => (Tracking::None, Endings::Here),
        Kind::Source(_) | Kind::Owned(_) => (Tracking::Owned, Endings::Elsewhere),
        Kind::Rule(Mode::Sync) => (Tracking::Shared, Endings::Everywhere),
        Kind::Rule(Mode::Replica | Mode::Readonly) | Kind::Role(Mode::Replica) => {
            (Tracking::Owned, Endings::Elsewhere)
        }
        Kind::Rule(_) | Kind::Role(_) if merged => (Tracking::Shared, Endings::Everywhere),
        Kind::Rule(_) | Kind::Role(_) if pulled || entry.pushed => (Tracking::Owned, Endings::Here),
        Kind::Rule(_) | Kind::Role(_) => (Tracking::None, Endings::Here),
    }
}
