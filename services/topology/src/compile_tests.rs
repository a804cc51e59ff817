//! Each mistake of a configuration is refused with the key at which it stands.

use crate::spec::{Mode, PathSpec, PeerSpec, SourceSpec, TopologySpec};
use crate::topology::Topology;

fn hub() -> TopologySpec {
    TopologySpec { primary_url: Some("ws://hub/db".to_owned()), ..TopologySpec::default() }
}

fn source(id: &str, path: &str, local_prefix: &str) -> SourceSpec {
    SourceSpec {
        id: id.to_owned(),
        url: "ws://other/db".to_owned(),
        paths: vec![path.to_owned()],
        local_prefix: local_prefix.to_owned(),
        exclude_prefixes: Vec::new(),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn key_of(change: impl FnOnce(&mut TopologySpec)) -> String {
    let mut spec = hub();
    change(&mut spec);
    let error = Topology::compile(&spec).unwrap_err();
    assert!(!error.message.is_empty() && !error.remedy.is_empty(), "{error}");
    error.key.strip_prefix("replication.").unwrap().to_owned()
}

#[test]
fn rules_that_cannot_be_are_refused_with_their_key() {
    let rule = |path: &str| PathSpec::new(path, Mode::Primary);
    let twice = key_of(|spec| spec.paths = vec![rule("a"), rule("b"), rule("a")]);
    assert_eq!(twice, "paths[2].path");
    assert_eq!(key_of(|spec| spec.paths = vec![rule("a//b")]), "paths[0].path");
    let unknown = PathSpec { path: "a".to_owned(), mode: "master".to_owned() };
    assert_eq!(key_of(|spec| spec.paths = vec![unknown]), "paths[0].mode");
    assert_eq!(key_of(|spec| spec.paths = vec![rule("_auth/server/k")]), "paths[0].path");
    let in_excluded = key_of(|spec| {
        spec.exclude_prefixes = texts(&["a"]);
        spec.paths = vec![rule("a/b")];
    });
    assert_eq!(in_excluded, "paths[0].path");
    assert_eq!(key_of(|spec| spec.exclude_prefixes = texts(&["a", "a"])), "excludePrefixes[1]");
    assert_eq!(key_of(|spec| spec.exclude_prefixes = texts(&[""])), "excludePrefixes[0]");
    let many = (0..1_001).map(|at| rule(&format!("p{at}"))).collect();
    assert_eq!(key_of(|spec| spec.paths = many), "paths");
    let alone = |spec: &mut TopologySpec| spec.primary_url = None;
    let lonely = key_of(|spec| {
        alone(spec);
        spec.paths = vec!["a".into()];
    });
    assert_eq!(lonely, "paths[0].mode");
    let replica = key_of(|spec| {
        alone(spec);
        spec.role = "replica".to_owned();
    });
    assert_eq!(replica, "role");
    assert_eq!(key_of(|spec| spec.role = "hub".to_owned()), "role");
    assert_eq!(key_of(|spec| spec.write_proxy = "queue".to_owned()), "writeProxy");
}

#[test]
fn sources_that_cannot_be_are_refused_with_their_key() {
    let with = |sources: Vec<SourceSpec>| key_of(|spec| spec.sources = sources);
    assert_eq!(with(vec![source("", "a", "x")]), "sources[0].id");
    assert_eq!(with(vec![source("upstream", "a", "x")]), "sources[0].id");
    assert_eq!(with(vec![source("s", "a", "x"), source("s", "a", "y")]), "sources[1].id");
    assert_eq!(with(vec![source("s", "a", "x"), source("t", "a/b", "x")]), "sources[1].paths[0]");
    assert_eq!(with(vec![source("s", "", "")]), "sources[0].paths[0]");
    assert_eq!(
        with(vec![SourceSpec { paths: Vec::new(), ..source("s", "", "x") }]),
        "sources[0].paths"
    );
    let outside = SourceSpec { exclude_prefixes: texts(&["b"]), ..source("s", "a", "x") };
    assert_eq!(with(vec![outside]), "sources[0].excludePrefixes[0]");
    assert_eq!(with(vec![source("s", "a", "x"), source("t", "a", "y")]), "sources[1].paths");
    // What comes from the upstream goes to it again, one prefix deeper, and comes back.
    let circle = key_of(|spec| {
        spec.paths = vec!["ext".into()];
        spec.sources =
            vec![SourceSpec { url: "ws://hub/db".to_owned(), ..source("s", "ext", "ext") }];
    });
    assert_eq!(circle, "sources[0].localPrefix");
}

/// Promise: what is accepted is what a link can say.
#[test]
fn more_zones_than_a_link_names_are_refused_and_as_many_as_it_names_are_not() {
    let lists = |paths: usize, below: usize| {
        let mut spec = hub();
        spec.paths = (0..paths).map(|at| PathSpec::new(format!("p{at}"), Mode::Sync)).collect();
        spec.exclude_prefixes = (0..below).map(|at| format!("p{at}/x")).collect();
        spec
    };
    let many = Topology::compile(&lists(1_000, 1_000)).unwrap();
    let plan = many.dials()[0].plan.clone();
    assert_eq!(plan.pull.len(), 2_000);
    let mut pair = crate::store_tests::linked(
        crate::store_tests::node(&lists(1_000, 1_000)),
        crate::store_tests::node(&crate::store_tests::hub()),
        200,
    );
    pair.run();
    assert!(pair.ends.iter().all(|end| end.closed.is_none()), "{:?}", pair.ends[1].closed);
    let owned = (0..5).map(|peer| PeerSpec {
        node: Some(format!("n{peer}")),
        push: (0..1_000).map(|at| format!("all/p{peer}-{at}")).collect(),
        merge: "owner".to_owned(),
        ..PeerSpec::default()
    });
    let key = key_of(|spec| {
        spec.paths = vec![PathSpec::new("all", Mode::Sync)];
        spec.peers = Some(owned.collect());
    });
    assert_eq!(key, "paths");
}

#[test]
fn grants_that_cannot_be_are_refused_with_their_key() {
    let with = |peer: PeerSpec| key_of(|spec| spec.peers = Some(vec![peer]));
    let peer = PeerSpec::default;
    assert_eq!(with(PeerSpec { pull: texts(&["_auth"]), ..peer() }), "peers[0].pull[0]");
    assert_eq!(with(PeerSpec { push: texts(&["_repl"]), ..peer() }), "peers[0].push[0]");
    assert_eq!(with(PeerSpec { merge: "crdt".to_owned(), ..peer() }), "peers[0].merge");
    assert_eq!(with(PeerSpec { merge: "owner".to_owned(), ..peer() }), "peers[0].merge");
    let both = PeerSpec { node: Some("n".to_owned()), role: Some("r".to_owned()), ..peer() };
    assert_eq!(with(both), "peers[0].role");
    let followed = key_of(|spec| {
        spec.paths = vec![PathSpec::new("users", Mode::Replica)];
        spec.peers = Some(vec![PeerSpec { push: texts(&["users/u1"]), ..peer() }]);
    });
    assert_eq!(followed, "peers[0].push[0]");
}

#[test]
fn what_nobody_may_replicate_is_not_stamped() {
    let tracked = |spec: &TopologySpec| -> Vec<String> {
        let status = Topology::compile(spec).unwrap().zone_status();
        status.into_iter().filter(|zone| zone.tracked).map(|zone| zone.path.to_string()).collect()
    };
    let alone = TopologySpec { peers: Some(Vec::new()), ..TopologySpec::default() };
    assert_eq!(tracked(&alone), Vec::<String>::new());
    assert_eq!(tracked(&TopologySpec::default()), [""], "whoever is let in may follow");
    let mut edge = hub();
    edge.peers = Some(Vec::new());
    edge.paths = vec!["config".into(), PathSpec::new("feeds", Mode::Readonly)];
    assert_eq!(tracked(&edge), ["config", "feeds"]);
}

#[test]
fn a_peer_that_is_named_nowhere_is_denied() {
    let spec = TopologySpec { peers: Some(Vec::new()), ..TopologySpec::default() };
    let topology = Topology::compile(&spec).unwrap();
    let hello = crate::zones_tests::hello_of(&[]);
    let refusal =
        topology.admit(&crate::plan::PeerIdentity::default(), &hello, &|_| None).unwrap_err();
    assert_eq!(refusal.reason, crate::message::RefusalReason::Denied);
}
