//! Zones, routes and plans against a reference that asks each rule anew for each path.
//!
//! Replay a failure with `TRELLIS_SEED=<seed>`.

use std::collections::BTreeSet;

use bytes::Bytes;
use trellis_tree::{Commit, Input, Operation, Path, Tracking, Zoning as _};

use crate::message::Hello;
use crate::plan::PeerIdentity;
use crate::route::Route;
use crate::source_check::covered_scope;
use crate::spec::{Mode, PathSpec, PeerSpec, SourceSpec, TopologySpec};
use crate::topology::Topology;

const SYSTEM: [&str; 7] =
    ["_auth/server", "_auth/sessions", "_indexes", "_leases", "_mq", "_repl", "_streams"];
const NAMES: [&str; 3] = ["a", "ab", "b"];

pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("TRELLIS_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or(0x5eed_0001_u64);
        eprintln!("{what}: TRELLIS_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count).unwrap()).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &'a [String]) -> &'a str {
        &from[self.below(from.len())]
    }
}

/// Every path that matters.
fn universe() -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut last = vec![String::new()];
    for _ in 0..4 {
        let mut next = Vec::new();
        for parent in &last {
            let slash = if parent.is_empty() { "" } else { "/" };
            next.extend(NAMES.iter().map(|name| format!("{parent}{slash}{name}")));
        }
        paths.extend(next.iter().cloned());
        last = next;
    }
    let auth = ["_auth", "_authx", "_auth/accounts", "_auth/nonces", "_auth/nonces/n", "_vfs"];
    paths.extend(auth.map(str::to_owned));
    paths.extend(SYSTEM.map(str::to_owned));
    paths.push("_auth/sessions/s".to_owned());
    paths
}

fn holds(ancestor: &str, path: &str) -> bool {
    ancestor.is_empty() || path == ancestor || path.starts_with(&format!("{ancestor}/"))
}

/// What decides at a path, as the table of precedence has it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decides {
    System,
    Excluded,
    Nonces,
    Rule(Mode),
    Role(Mode),
    Source,
    Owned(usize),
}

fn decides(spec: &TopologySpec, path: &str) -> Decides {
    if SYSTEM.iter().any(|system| holds(system, path)) {
        return Decides::System;
    }
    if spec.exclude_prefixes.iter().any(|excluded| holds(excluded, path)) {
        return Decides::Excluded;
    }
    let mut rules: Vec<(String, Decides)> = Vec::new();
    for rule in &spec.paths {
        rules.push((rule.path.clone(), Decides::Rule(Mode::of(&rule.mode).unwrap())));
    }
    for source in &spec.sources {
        for remote in &source.paths {
            rules.push((destination(source, remote), Decides::Source));
        }
    }
    for (at, peer) in spec.peers.iter().flatten().enumerate() {
        if peer.merge == "owner" {
            rules.extend(peer.push.iter().map(|path| (path.clone(), Decides::Owned(at))));
        }
    }
    let nonces_ruled = rules.iter().any(|(prefix, _)| prefix == "_auth/nonces");
    if !nonces_ruled {
        rules.push(("_auth/nonces".to_owned(), Decides::Nonces));
    }
    // A rule of all does not lift the default exclude: only one that names something in it.
    if !rules.iter().any(|(prefix, _)| prefix == "_auth") {
        rules.push(("_auth".to_owned(), Decides::Excluded));
    }
    let covering = rules.into_iter().filter(|(prefix, _)| holds(prefix, path));
    if let Some((_, kind)) = covering.max_by_key(|(prefix, _)| prefix.len()) {
        return kind;
    }
    Decides::Role(Mode::of(&spec.role).unwrap())
}

fn destination(source: &SourceSpec, remote: &str) -> String {
    match (source.local_prefix.as_str(), remote) {
        ("", remote) => remote.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, remote) => format!("{prefix}/{remote}"),
    }
}

/// Whether a configuration has no mistake of the kinds that are drawn.
fn is_sound(spec: &TopologySpec) -> bool {
    let in_private = |path: &str| {
        SYSTEM.iter().any(|system| holds(system, path))
            || spec.exclude_prefixes.iter().any(|excluded| holds(excluded, path))
    };
    let mut prefixes: Vec<String> = spec.paths.iter().map(|rule| rule.path.clone()).collect();
    let mut destinations: Vec<String> = Vec::new();
    for source in &spec.sources {
        for remote in &source.paths {
            let local = destination(source, remote);
            if local.is_empty() || destinations.iter().any(|o| holds(o, &local) || holds(&local, o))
            {
                return false;
            }
            destinations.push(local);
        }
    }
    prefixes.extend(destinations);
    let distinct: BTreeSet<&String> = prefixes.iter().collect();
    let excluded: BTreeSet<&String> = spec.exclude_prefixes.iter().collect();
    let upstream = spec.primary_url.is_some();
    distinct.len() == prefixes.len()
        && excluded.len() == spec.exclude_prefixes.len()
        && !spec.exclude_prefixes.iter().any(String::is_empty)
        && !prefixes.iter().any(|path| in_private(path))
        && (upstream || spec.paths.iter().all(|rule| rule.mode == "primary"))
        && (upstream || spec.role == "primary")
}

/// A configuration of prefixes that are short enough to lie in one another.
fn draw(dice: &mut Dice, paths: &[String]) -> TopologySpec {
    let short = |path: &&String| path.matches('/').count() < 2;
    let paths = &paths.iter().filter(short).cloned().collect::<Vec<_>>();
    let mut spec = TopologySpec {
        role: if dice.one_in(3) { "replica" } else { "primary" }.to_owned(),
        primary_url: (!dice.one_in(8)).then(|| "ws://hub/db".to_owned()),
        write_proxy: if dice.one_in(4) { "reject" } else { "proxy" }.to_owned(),
        ..TopologySpec::default()
    };
    for _ in 0..dice.below(5) {
        let mode = Mode::ALL[dice.below(Mode::ALL.len())];
        spec.paths.push(PathSpec::new(dice.pick(paths), mode));
    }
    for _ in 0..dice.below(3) {
        spec.exclude_prefixes.push(dice.pick(paths).to_owned());
    }
    for at in 0..dice.below(3) {
        spec.sources.push(SourceSpec {
            id: format!("s{at}"),
            url: format!("ws://other{at}/db"),
            paths: vec![dice.pick(paths).to_owned()],
            local_prefix: if dice.one_in(2) { String::new() } else { "b".to_owned() },
            exclude_prefixes: Vec::new(),
        });
    }
    spec
}

fn key(path: &str) -> Bytes {
    Path::parse(path).unwrap().key().clone()
}

/// Specs that compile, with the number of those that did not.
fn each_topology(
    what: &str,
    rounds: usize,
    mut with: impl FnMut(&mut Dice, &TopologySpec, Topology),
) {
    let (mut dice, paths) = (Dice::new(what), universe());
    let mut sound = 0;
    for _ in 0..rounds {
        let spec = draw(&mut dice, &paths);
        match Topology::compile(&spec) {
            Ok(topology) => {
                assert!(is_sound(&spec), "a mistake was taken: {spec:?}");
                sound += 1;
                with(&mut dice, &spec, topology);
            }
            Err(error) => assert!(!is_sound(&spec), "{error}: {spec:?}"),
        }
    }
    assert!(sound * 5 > rounds, "too few are sound to show anything: {sound} of {rounds}");
}

#[test]
fn the_rule_of_each_path_is_that_of_the_table_of_precedence() {
    let paths = universe();
    each_topology("precedence", 600, |_, spec, topology| {
        for path in &paths {
            let expected = decides(spec, path);
            let mode = match expected {
                Decides::Nonces => Some(Mode::Primary),
                Decides::Rule(mode) | Decides::Role(mode) => Some(mode),
                _ => None,
            };
            assert_eq!(topology.mode(&key(path)), mode, "{path} in {spec:?}");
            let zone = topology.zones.zone(&key(path));
            let private = matches!(expected, Decides::System | Decides::Excluded | Decides::Nonces);
            assert_eq!(zone.tracking == Tracking::None, private, "{path} in {spec:?}");
            let shared = expected == Decides::Rule(Mode::Sync);
            assert_eq!(zone.tracking == Tracking::Shared, shared, "{path} in {spec:?}");
        }
    });
}

#[test]
fn zones_below_a_path_are_carved_out_of_it_and_nothing_else_is() {
    let paths = universe();
    each_topology("carved", 300, |_, spec, topology| {
        let zones = &topology.zones;
        for path in &paths {
            let carved = zones.carved(&key(path));
            let own = zones.zone(&key(path)).id;
            assert!(carved.is_sorted(), "{carved:?}");
            for below in paths.iter().filter(|below| holds(path, below) && *below != path) {
                let left_alone = carved.iter().any(|at| crate::zones::covers(at, &key(below)));
                let other = zones.zone(&key(below)).id != own;
                assert_eq!(left_alone, other, "{below} below {path} in {spec:?}");
            }
            let below = paths.iter().filter(|below| holds(path, below));
            let tracked = below.map(|path| zones.zone(&key(path)).tracking != Tracking::None);
            assert_eq!(zones.any_tracked(&key(path)), tracked.fold(false, |a, b| a | b), "{path}");
        }
    });
}

/// The ways of a write: here, to the upstream, or nowhere for a reason.
fn way(spec: &TopologySpec, path: &str) -> &'static str {
    match decides(spec, path) {
        Decides::Rule(Mode::Replica) | Decides::Role(Mode::Replica) => {
            if spec.write_proxy == "proxy" { "forward" } else { "write_rejected" }
        }
        Decides::Rule(Mode::Readonly) => "read_only_path",
        Decides::Source | Decides::Owned(_) => "source_owned",
        _ => "here",
    }
}

fn expected_route(
    spec: &TopologySpec,
    paths: &[String],
    writes: &[(String, Vec<String>)],
) -> String {
    let mut ways = BTreeSet::new();
    for (path, nodes) in writes {
        ways.insert(way(spec, path));
        for below in paths.iter().filter(|below| holds(path, below) && *below != path) {
            let kind = decides(spec, below);
            let stays = matches!(kind, Decides::System | Decides::Source | Decides::Owned(_));
            if !stays || nodes.contains(below) {
                ways.insert(way(spec, below));
            }
        }
    }
    if ways.len() > 1 {
        "mixed_routing".to_owned()
    } else {
        ways.first().copied().unwrap_or("here").to_owned()
    }
}

#[test]
fn a_commit_goes_where_each_path_that_it_touches_goes() {
    let paths = universe();
    each_topology("routes", 600, |dice, spec, topology| {
        for _ in 0..40 {
            let (mut commit, mut writes) = (Commit::default(), Vec::new());
            for _ in 0..=dice.below(2) {
                let path = dice.pick(&paths).to_owned();
                let parsed = Path::parse(&path).unwrap();
                if dice.one_in(2) {
                    commit.operations.push(Operation::Delete { path: parsed });
                    writes.push((path, Vec::new()));
                } else {
                    let name = NAMES[dice.below(NAMES.len())];
                    let value = serde_json::json!({ name: { "b": 1 } });
                    let value = Input::from_json(value).unwrap();
                    commit.operations.push(Operation::Set { path: parsed, value, expiry: None });
                    let child =
                        if path.is_empty() { name.into() } else { format!("{path}/{name}") };
                    let leaf = format!("{child}/b");
                    writes.push((path, vec![child, leaf]));
                }
            }
            let expected = expected_route(spec, &paths, &writes);
            let found = match topology.route(&commit) {
                Route::Here => "here".to_owned(),
                Route::Forward { .. } => "forward".to_owned(),
                Route::Refused(refusal) => refusal.error.fact("reason").unwrap().to_owned(),
            };
            assert_eq!(found, expected, "{writes:?} in {spec:?}");
        }
    });
}

/// The first word of a node that offers these zones to pull.
pub(crate) fn hello_of(pull: &[crate::message::ZoneOffer]) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        node: 7,
        name: "edge".to_owned(),
        epoch: 1,
        life: 1,
        attempt: 1,
        head: 0,
        wall_ms: 0,
        schema: 0,
        features: Vec::new(),
        pull: pull.to_vec(),
        push: Vec::new(),
    }
}

fn hello(topology: &Topology) -> Option<(Hello, &crate::plan::DialPlan)> {
    let dial =
        topology.dials().iter().find(|dial| dial.id.as_ref() == crate::topology::UPSTREAM)?;
    let hello = Hello { push: dial.plan.push.clone(), ..hello_of(&dial.plan.pull) };
    Some((hello, &dial.plan))
}

fn is_pulled(decided: &Decides) -> bool {
    matches!(
        decided,
        Decides::Rule(Mode::Replica | Mode::Readonly | Mode::Sync) | Decides::Role(Mode::Replica)
    )
}

#[test]
fn an_admitted_peer_follows_exactly_what_it_wants_and_was_granted() {
    let paths = universe();
    let mut admitted = 0;
    each_topology("pulls", 6000, |dice, edge_spec, edge| {
        let Some((hello, dial)) = hello(&edge) else { return };
        let mut hub_spec = draw(dice, &paths);
        hub_spec.sources.clear();
        hub_spec.paths.truncate(1);
        let pull = if dice.one_in(2) { String::new() } else { dice.pick(&paths).to_owned() };
        let push = (0..dice.below(2)).map(|_| String::new()).collect();
        hub_spec.peers = Some(vec![PeerSpec { pull: vec![pull], push, ..PeerSpec::default() }]);
        let Ok(hub) = Topology::compile(&hub_spec) else { return };
        let Ok(plan) = hub.admit(&PeerIdentity::default(), &hello, &|_| None) else { return };
        let Some(pull) = &dial.link.pull else { return };
        admitted += 1;
        let open = crate::message::Open {
            feed: pull.feed.clone(),
            prefixes: pull.parts.iter().map(|part| part.prefix.clone()).collect(),
            except: pull.except.clone(),
            at: None,
        };
        let scope = covered_scope(&open, &plan.push.unwrap().scope);
        let granted = &hub_spec.peers.as_ref().unwrap()[0].pull[0];
        for path in &paths {
            let hub_decides = decides(&hub_spec, path);
            let by_name = matches!(hub_decides, Decides::Nonces | Decides::Rule(Mode::Writeonly));
            let named = decides(&hub_spec, granted) == hub_decides && by_name;
            let private = matches!(hub_decides, Decides::System | Decides::Excluded);
            let served = holds(granted, path) && !private && (!by_name || named);
            let wanted = is_pulled(&decides(edge_spec, path)) && served;
            assert_eq!(scope.covers(&key(path)), wanted, "{path}: {edge_spec:?} at {hub_spec:?}");
        }
    });
    assert!(admitted > 30, "too few were admitted to show anything: {admitted}");
}

#[test]
fn what_is_taken_from_a_peer_lies_in_its_grant_and_in_what_is_written_here() {
    let paths = universe();
    let mut taken = 0;
    each_topology("pushes", 6000, |dice, edge_spec, edge| {
        let Some((hello, dial)) = hello(&edge) else { return };
        let mut hub_spec = draw(dice, &paths);
        hub_spec.paths.truncate(1);
        let (pull, push) = (
            vec![String::new()],
            vec![if dice.one_in(2) { String::new() } else { dice.pick(&paths).to_owned() }],
        );
        hub_spec.peers = Some(vec![PeerSpec { pull, push, ..PeerSpec::default() }]);
        let Ok(hub) = Topology::compile(&hub_spec) else { return };
        let Ok(plan) = hub.admit(&PeerIdentity::default(), &hello, &|_| None) else { return };
        let (Some(pull), Some(push)) = (plan.pull, &dial.link.push) else { return };
        taken += 1;
        let granted = &hub_spec.peers.as_ref().unwrap()[0].push[0];
        for path in &paths {
            let offered = push.scope.covers(&key(path));
            let hub_decides = decides(&hub_spec, path);
            let written = matches!(
                hub_decides,
                Decides::Nonces
                    | Decides::Role(Mode::Primary)
                    | Decides::Rule(Mode::Primary | Mode::Sync | Mode::Writeonly)
            );
            let expected = offered && written && holds(granted, path);
            let scope = pull.source_scope();
            assert_eq!(
                scope.covers(&key(path)) && offered,
                expected,
                "{path}: {edge_spec:?} at {hub_spec:?}"
            );
        }
    });
    assert!(taken > 30, "too few were admitted to show anything: {taken}");
}
