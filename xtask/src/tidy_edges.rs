//! Tidy rules for who may depend on whom, read from `cargo metadata`.
//!
//! They look at direct dependencies as the manifests declare them, optional ones and those of other
//! platforms included; what comes in through others, `cargo xtask features` proves. Dependencies
//! for tests (`dev-dependencies`) are judged more kindly where a rule says so.

use crate::features::RUNTIMES;
use crate::metadata::{Dependency, Package, packages, within};

/// The services from the lowest to the highest: each may know those before it.
const SERVICES: [&str; 13] = [
    "runtime",
    "tree",
    "archive",
    "query",
    "subscribe",
    "presence",
    "rules",
    "streams",
    "queue",
    "vfs",
    "identity",
    "topology",
    "search",
];

const HTTP: [&str; 11] = [
    "axum",
    "fastwebsockets",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "reqwest",
    "tokio-tungstenite",
    "tower-http",
    "tungstenite",
    "ureq",
];

/// What is wrong with one dependency of a package, if anything.
type Judge = fn(&Package, &Dependency) -> Option<String>;

fn services_know_lower_services(package: &Package, dependency: &Dependency) -> Option<String> {
    let own = package.folder.strip_prefix("services/")?;
    let Some(height) = SERVICES.iter().position(|name| *name == own) else {
        return Some(
            "give the new service its place in SERVICES of xtask/src/tidy_edges.rs".into(),
        );
    };
    let folder = dependency.folder.as_deref()?;
    let lower = SERVICES.iter().take(height).any(|name| folder == format!("services/{name}"));
    if lower || folder == "engine-traits" || (dependency.for_tests && is_for_tests(folder)) {
        return None;
    }
    Some("a service knows engine-traits and lower services only: turn the dependency round".into())
}

/// What any crate's own tests may use: the suite, and the engines that need no installation.
fn is_for_tests(folder: &str) -> bool {
    let memory = folder.starts_with("backends/") && folder.ends_with("-memory");
    folder == "conformance-tests" || folder == "backends/repl-loopback" || memory
}

fn backends_know_engine_traits(package: &Package, dependency: &Dependency) -> Option<String> {
    let folder = dependency.folder.as_deref()?;
    let fine = folder == "engine-traits" || (dependency.for_tests && is_for_tests(folder));
    (package.is_in(&["backends"]) && !fine).then(|| {
        "a backend sees bytes: it knows engine-traits only (and the suite, for its tests)".into()
    })
}

fn few_name_a_backend(package: &Package, dependency: &Dependency) -> Option<String> {
    let folder = dependency.folder.as_deref()?;
    let names = within(folder, "backends");
    let may = package.is_in(&["platform", "conformance-tests", "examples", "bench"])
        || (dependency.for_tests && is_for_tests(folder));
    (names && !may).then(|| {
        "only platform, conformance-tests, examples and bench name a backend: open it by URL \
         through trellis-db"
            .into()
    })
}

fn engine_traits_stand_alone(package: &Package, dependency: &Dependency) -> Option<String> {
    let runtime = RUNTIMES.contains(&dependency.name.as_str());
    let own = dependency.folder.is_some() && !dependency.for_tests;
    (package.folder == "engine-traits" && (runtime || own)).then(|| {
        "engine-traits has no async runtime and knows no other crate of ours: move what needs it \
         into services/runtime"
            .into()
    })
}

fn few_know_http(package: &Package, dependency: &Dependency) -> Option<String> {
    const MAY: [&str; 7] = [
        "server",
        "clients",
        "backends/repl-ws",
        "backends/vfs-s3",
        "conformance-tests",
        "bench",
        "examples",
    ];
    let http = HTTP.contains(&dependency.name.as_str());
    (http && !package.is_in(&MAY)).then(|| {
        "only server and clients (and repl-ws, vfs-s3) know HTTP and WebSocket: hand plain types \
         to them"
            .into()
    })
}

fn few_know_tokio(package: &Package, dependency: &Dependency) -> Option<String> {
    const MAY: [&str; 7] = [
        "server",
        "clients",
        "services/runtime",
        "bench",
        "examples",
        "conformance-tests",
        // Network by nature, like every `backends/repl-*`.
        "backends/vfs-s3",
    ];
    let tokio = dependency.name == "tokio" || dependency.name.starts_with("tokio-");
    let may =
        package.is_in(&MAY) || package.folder.starts_with("backends/repl-") || dependency.for_tests;
    (tokio && !may).then(|| {
        "an embedded Trellis needs no tokio: hand the work to services/runtime, or return a \
         future that any executor drives"
            .into()
    })
}

fn findings(packages: &[Package], judge: Judge) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            if let Some(message) = judge(package, dependency) {
                let (from, to) = (&package.name, &dependency.name);
                findings.push(format!("{}/Cargo.toml: {from} -> {to}: {message}", package.folder));
            }
        }
    }
    findings
}

fn assert_edges(judge: Judge) {
    let findings = findings(&packages().expect("cargo metadata"), judge);
    assert!(findings.is_empty(), "edges that must not be:\n  {}", findings.join("\n  "));
}

#[test]
fn services_know_engine_traits_and_lower_services_only() {
    assert_edges(services_know_lower_services);
}

#[test]
fn backends_know_engine_traits_only() {
    assert_edges(backends_know_engine_traits);
}

#[test]
fn only_few_crates_name_a_backend() {
    assert_edges(few_name_a_backend);
}

#[test]
fn engine_traits_has_no_async_runtime() {
    assert_edges(engine_traits_stand_alone);
}

#[test]
fn only_few_crates_know_http() {
    assert_edges(few_know_http);
}

#[test]
fn only_few_crates_know_tokio() {
    assert_edges(few_know_tokio);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message for `folder -> dependency`, where a dependency with a `/` or a folder of ours
    /// is a package of the workspace, and `?` behind it means: for tests.
    fn judged(judge: Judge, folder: &str, dependency: &str) -> Option<String> {
        let (name, for_tests) = match dependency.strip_suffix('?') {
            Some(name) => (name, true),
            None => (dependency, false),
        };
        let ours = name.contains('/') || ["engine-traits", "conformance-tests"].contains(&name);
        let folder_of_ours = ours.then(|| name.to_owned());
        let dependency = Dependency { name: name.to_owned(), for_tests, folder: folder_of_ours };
        let package = Package {
            name: folder.to_owned(),
            folder: folder.to_owned(),
            features: Vec::new(),
            dependencies: vec![dependency],
        };
        findings(&[package], judge).pop()
    }

    #[test]
    fn a_service_may_look_down_but_not_up() {
        let judge = services_know_lower_services;
        assert_eq!(judged(judge, "services/query", "services/tree"), None);
        assert_eq!(judged(judge, "services/query", "engine-traits"), None);
        assert_eq!(judged(judge, "services/query", "serde"), None);
        assert_eq!(judged(judge, "services/tree", "backends/kv-memory?"), None);
        let message = judged(judge, "services/tree", "services/query").unwrap();
        assert!(message.starts_with("services/tree/Cargo.toml: services/tree -> services/query:"));
        assert!(message.ends_with("turn the dependency round"));
        assert!(judged(judge, "services/tree", "backends/kv-memory").is_some());
        let message = judged(judge, "services/brandnew", "serde").unwrap();
        assert!(message.contains("its place in SERVICES"));
    }

    #[test]
    fn a_backend_knows_the_traits_only() {
        let judge = backends_know_engine_traits;
        assert_eq!(judged(judge, "backends/log-kv", "engine-traits"), None);
        assert_eq!(judged(judge, "backends/log-kv", "conformance-tests?"), None);
        assert!(judged(judge, "backends/log-kv", "conformance-tests").is_some());
        assert!(judged(judge, "backends/log-kv", "services/runtime").is_some());
    }

    #[test]
    fn a_backend_is_named_by_those_who_assemble() {
        let judge = few_name_a_backend;
        assert_eq!(judged(judge, "platform", "backends/kv-redb"), None);
        assert_eq!(judged(judge, "examples/embed", "backends/kv-redb"), None);
        assert_eq!(judged(judge, "backends/log-kv", "backends/kv-memory?"), None);
        let message = judged(judge, "server", "backends/kv-redb").unwrap();
        assert!(message.ends_with("open it by URL through trellis-db"), "{message}");
        assert!(judged(judge, "server", "backends/kv-redb?").is_some());
    }

    #[test]
    fn the_traits_have_no_runtime() {
        let judge = engine_traits_stand_alone;
        assert_eq!(judged(judge, "engine-traits", "bytes"), None);
        assert!(judged(judge, "engine-traits", "tokio").is_some());
        assert!(judged(judge, "engine-traits", "services/runtime").is_some());
    }

    #[test]
    fn http_and_tokio_stay_at_the_edges() {
        assert_eq!(judged(few_know_http, "server", "axum"), None);
        assert_eq!(judged(few_know_http, "backends/vfs-s3", "hyper"), None);
        assert!(judged(few_know_http, "platform", "axum").is_some());
        assert_eq!(judged(few_know_tokio, "clients/rust", "tokio"), None);
        assert_eq!(judged(few_know_tokio, "services/tree", "tokio?"), None);
        assert_eq!(judged(few_know_tokio, "backends/repl-loopback", "tokio-util"), None);
        let message = judged(few_know_tokio, "platform", "tokio").unwrap();
        assert!(message.contains("needs no tokio"), "{message}");
    }
}
