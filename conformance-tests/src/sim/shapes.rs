//! Topologies: who follows whom, and what each node should hold when all has arrived.

use super::model::{Group, Key, Place};
use super::workload::Places;
use crate::Rng;

/// The mode of a path, as a configuration names it.
pub(super) type Mode = &'static str;

/// What a node is configured with.
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    /// The node that it follows, by its number.
    pub(super) upstream: Option<usize>,
    pub(super) paths: Vec<(String, Mode)>,
    pub(super) sources: Vec<Source>,
    pub(super) exclude: Vec<String>,
    pub(super) grants: Vec<Grant>,
}

#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) id: String,
    pub(super) node: usize,
    pub(super) path: String,
    pub(super) local_prefix: String,
    pub(super) exclude: Vec<String>,
}

/// What a node allows a peer.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) peer: String,
    pub(super) pull: Vec<String>,
    pub(super) push: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) writes: Places,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) nodes: Vec<NodePlan>,
    pub(super) groups: Vec<Group>,
}

/// One zone of a link: a path, its mode at the node that dials.
type Zone = (&'static str, Mode);

const ZONES: &[Zone] = &[
    ("files", "primary"),
    ("ident", "replica"),
    ("config", "sync"),
    ("feeds", "readonly"),
    ("telemetry", "writeonly"),
];

/// Zones that each edge of a star has for itself.
const OWN: [[Zone; 2]; 3] = [
    [("files/east", "primary"), ("telemetry/east", "writeonly")],
    [("files/west", "primary"), ("telemetry/west", "writeonly")],
    [("files/south", "primary"), ("telemetry/south", "writeonly")],
];

fn key(path: &str) -> Key {
    path.replace('/', "\0").into_bytes()
}

fn place(node: usize, path: &str) -> Place {
    Place { node, prefix: key(path) }
}

fn strings(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

impl Shape {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 | 1 => Self::pair(ZONES[rng.below(ZONES.len())], rng),
            2 | 3 => Self::star(rng),
            4 => Self::chain(rng),
            5 => Self::two_sources(),
            6 => Self::diamond(),
            _ => Self::cycle(rng),
        }
    }

    /// A shape that only rough seeds have, for some of them.
    pub(super) fn rough(rng: &mut Rng) -> Option<Self> {
        rng.one_in(6).then(Self::part)
    }

    /// An edge follows a part of what its hub writes to, also from above.
    fn part() -> Self {
        let mut shape = Self::named("part");
        let (hub, edge) = (shape.node("hub"), shape.node("edge"));
        shape.follow(edge, hub, &[("feeds/a", "readonly")]);
        shape.writes(hub, &["feeds"]);
        shape.group(&[(hub, "feeds/a"), (edge, "feeds/a")], &[(hub, "feeds/a")], &[]);
        shape
    }

    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn node(&mut self, name: &str) -> usize {
        let plan =
            NodePlan { name: name.to_owned(), spec: Spec::default(), writes: Places(vec![]) };
        self.nodes.push(plan);
        // What nobody replicates stays where it is.
        let node = self.nodes.len() - 1;
        self.nodes[node].writes.0.push("own".to_owned());
        self.group(&[(node, "own")], &[(node, "own")], &[]);
        node
    }

    fn group(&mut self, members: &[(usize, &str)], authors: &[(usize, &str)], except: &[&str]) {
        let places = |all: &[(usize, &str)]| -> Vec<Place> {
            all.iter().map(|(node, path)| place(*node, path)).collect()
        };
        let (node, path) = members[0];
        self.groups.push(Group {
            name: format!("{path} of {}", self.nodes[node].name),
            members: places(members),
            authors: places(authors),
            except: except.iter().map(|path| key(path)).collect(),
        });
    }

    fn writes(&mut self, node: usize, paths: &[&str]) {
        self.nodes[node].writes.0.extend(strings(paths));
    }

    /// An edge follows a hub; a grant is made for it.
    fn follow(&mut self, edge: usize, hub: usize, zones: &[Zone]) {
        let peer = self.nodes[edge].name.clone();
        self.nodes[edge].spec.upstream = Some(hub);
        let mut grant = Grant { peer, pull: vec![], push: vec![] };
        for (path, mode) in zones {
            self.nodes[edge].spec.paths.push(((*path).to_owned(), *mode));
            if matches!(*mode, "replica" | "readonly" | "sync") {
                grant.pull.push((*path).to_owned());
            }
            if matches!(*mode, "primary" | "sync" | "writeonly") {
                grant.push.push((*path).to_owned());
            }
        }
        self.nodes[hub].spec.grants.push(grant);
    }

    fn pair(zone: Zone, rng: &mut Rng) -> Self {
        let mut shape = Self::named(format!("pair {}", zone.1));
        let (hub, edge) = (shape.node("hub"), shape.node("edge"));
        shape.follow(edge, hub, &[zone]);
        let inner = format!("{}/a/b", zone.0);
        let carved = rng.one_in(2);
        if carved {
            shape.nodes[edge].spec.exclude.push(inner.clone());
            shape.writes(edge, &[&inner]);
            shape.group(&[(edge, &inner)], &[(edge, &inner)], &[]);
        }
        let except: &[&str] = if carved { &["a/b"] } else { &[] };
        shape.zone(zone, hub, &[edge], except);
        shape
    }

    /// The groups of a zone that edges share with a hub, and who writes there.
    fn zone(&mut self, (path, mode): Zone, hub: usize, edges: &[usize], except: &[&str]) {
        let own = |node: usize| (node, path);
        let mut all = vec![own(hub)];
        all.extend(edges.iter().map(|edge| own(*edge)));
        match mode {
            "sync" => {
                self.writes(hub, &[path]);
                self.group(&all, &all, except);
            }
            "replica" | "readonly" => {
                self.writes(hub, &[path]);
                self.group(&all, &[own(hub)], except);
            }
            _ => {
                self.group(&[own(hub)], &all, except);
                for edge in edges {
                    self.group(&[own(*edge)], &[own(*edge)], except);
                }
            }
        }
        for edge in edges {
            self.writes(*edge, &[path]);
        }
    }

    fn star(rng: &mut Rng) -> Self {
        let mut shape = Self::named("star");
        let hub = shape.node("hub");
        let edges = [shape.node("east"), shape.node("west"), shape.node("south")];
        let zones: Vec<Zone> = ZONES.iter().copied().filter(|_| !rng.one_in(3)).collect();
        for (at, edge) in edges.into_iter().enumerate() {
            // What an edge owns has a place of its own at the hub.
            let own = |zone: &Zone| OWN[at].iter().copied().find(|own| own.1 == zone.1);
            let zones: Vec<Zone> = zones.iter().map(|zone| own(zone).unwrap_or(*zone)).collect();
            shape.follow(edge, hub, &zones);
            for zone in zones.into_iter().filter(|zone| OWN[at].contains(zone)) {
                shape.zone(zone, hub, &[edge], &[]);
            }
        }
        for zone in zones.into_iter().filter(|zone| !matches!(zone.1, "primary" | "writeonly")) {
            shape.zone(zone, hub, &edges, &[]);
        }
        shape
    }

    fn chain(rng: &mut Rng) -> Self {
        let mut shape = Self::named("chain");
        let (a, b, c) = (shape.node("a"), shape.node("b"), shape.node("c"));
        let zones: &[Zone] = if rng.one_in(2) {
            &[("config", "sync"), ("ident", "replica")]
        } else {
            &[("feeds", "readonly"), ("config", "sync")]
        };
        shape.follow(b, a, zones);
        shape.follow(c, b, zones);
        for zone in zones {
            shape.zone(*zone, a, &[b, c], &[]);
        }
        shape
    }

    fn source(&mut self, node: usize, from: usize, path: &str, local_prefix: &str) {
        let id = self.nodes[from].name.clone();
        let (path, local_prefix) = (path.to_owned(), local_prefix.to_owned());
        let exclude = Vec::new();
        let grant =
            Grant { peer: self.nodes[node].name.clone(), pull: vec![path.clone()], push: vec![] };
        self.nodes[from].spec.grants.push(grant);
        self.nodes[node].spec.sources.push(Source { id, node: from, path, local_prefix, exclude });
    }

    fn two_sources() -> Self {
        let mut shape = Self::named("two sources");
        let (one, two, node) = (shape.node("one"), shape.node("two"), shape.node("node"));
        for from in [one, two] {
            let name = shape.nodes[from].name.clone();
            shape.source(node, from, "catalog", &name);
            shape.writes(from, &["catalog"]);
            let local = format!("{name}/catalog");
            shape.group(&[(from, "catalog"), (node, &local)], &[(from, "catalog")], &[]);
        }
        shape
    }

    fn diamond() -> Self {
        let mut shape = Self::named("diamond");
        let (top, left, right) = (shape.node("top"), shape.node("left"), shape.node("right"));
        let end = shape.node("end");
        let zones: &[Zone] = &[("config", "sync")];
        shape.follow(left, top, zones);
        shape.follow(right, top, zones);
        shape.zone(zones[0], top, &[left, right], &[]);
        let all = [(top, "config"), (left, "config"), (right, "config")];
        for from in [left, right] {
            let name = shape.nodes[from].name.clone();
            shape.source(end, from, "config", &name);
            let local = format!("{name}/config");
            shape.group(&[(end, &local)], &all, &[]);
        }
        shape
    }

    /// Each of two nodes is the other's hub for one zone; sometimes each follows a copy of its own.
    fn cycle(rng: &mut Rng) -> Self {
        let mut shape = Self::named("cycle");
        let (one, two) = (shape.node("one"), shape.node("two"));
        if rng.one_in(2) {
            shape.name = "dual hubs".to_owned();
            shape.follow(one, two, &[("left", "sync"), ("config", "sync")]);
            shape.follow(two, one, &[("right", "replica")]);
            shape.zone(("left", "sync"), two, &[one], &[]);
            shape.zone(("config", "sync"), two, &[one], &[]);
            shape.zone(("right", "replica"), one, &[two], &[]);
            return shape;
        }
        shape.source(one, two, "x", "ext");
        shape.source(two, one, "ext", "x");
        // One's `ext/x` is two's `x`, and two's `x/ext` one's `ext`: neither takes its own back.
        shape.nodes[one].spec.sources[0].exclude.push("x/ext".to_owned());
        shape.nodes[two].spec.sources[0].exclude.push("ext/x".to_owned());
        shape.writes(two, &["x"]);
        shape.writes(one, &["ext"]);
        shape.group(&[(two, "x"), (one, "ext/x")], &[(two, "x")], &["ext"]);
        shape.group(&[(one, "ext"), (two, "x/ext")], &[(one, "ext")], &["x"]);
        shape
    }
}
