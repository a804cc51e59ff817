//! `features`: that features are additive, and that what is turned off stays out of the build.
//!
//! The proofs read `cargo tree`, not the source: a feature that a dependency turns on by itself
//! shows there and nowhere else.

use crate::metadata::packages;
use crate::step::{Failed, Outcome, Step};

/// The crates that hand engine features on to their users.
const PACKAGES: [&str; 2] = ["trellis-db", "trellis-server"];

/// What a server without features must not contain: storage engines, TLS, HTTP clients.
const OUTSIDE_A_BARE_SERVER: [&str; 24] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "curl",
    "curl-sys",
    "hyper-rustls",
    "hyper-tls",
    "isahc",
    "libsqlite3-sys",
    "native-tls",
    "object_store",
    "openssl",
    "openssl-sys",
    "redb",
    "reqwest",
    "ring",
    "rusqlite",
    "rustls",
    "rustls-webpki",
    "schannel",
    "security-framework",
    "sled",
    "tokio-native-tls",
    "tokio-rustls",
    "ureq",
];

/// HTTP libraries that contain a client only when a feature of theirs says so.
const CLIENT_BY_FEATURE: [&str; 2] = ["hyper", "hyper-util"];

/// Async runtimes and the drivers beneath them.
pub(crate) const RUNTIMES: [&str; 9] =
    ["actix-rt", "async-io", "async-std", "compio", "glommio", "mio", "monoio", "smol", "tokio"];

/// Compiles each selection of features, then proves what is absent.
pub(crate) fn features() -> Outcome {
    let packages = packages()?;
    for package in packages.iter().filter(|package| PACKAGES.contains(&package.name.as_str())) {
        let check = format!("check -p {}", package.name);
        Step::cargo(&format!("{check} --no-default-features")).run()?;
        for feature in &package.features {
            Step::cargo(&format!("{check} --no-default-features --features {feature}")).run()?;
        }
        Step::cargo(&format!("{check} --all-features")).run()?;
    }
    let listing = "-e normal --prefix none --no-dedupe --format";
    let server = Step::cargo(&format!("tree -p trellis-server --no-default-features {listing}"))
        .arguments(&["{p} {f}".to_owned()])
        .output()?;
    prove("trellis-server without features", &server, &OUTSIDE_A_BARE_SERVER)?;
    let traits = Step::cargo(&format!("tree -p trellis-engine-traits --all-features {listing}"))
        .arguments(&["{p} {f}".to_owned()])
        .output()?;
    prove("trellis-engine-traits", &traits, &RUNTIMES)
}

fn prove(what: &str, tree: &str, banned: &[&str]) -> Outcome {
    let found = intruders(tree, banned);
    if !found.is_empty() {
        return Err(Failed::new(format!(
            "{what} must not depend on {}: put the dependency behind a feature, or turn its \
             default features off (`cargo tree -i <crate>` shows who pulls it in)",
            found.join(", ")
        )));
    }
    eprintln!("proved: {what} contains none of {}", banned.join(", "));
    Ok(())
}

/// The banned crates in a tree printed as one `name version features` line per crate.
fn intruders(tree: &str, banned: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let has_client = words.next_back().is_some_and(|features| {
            features.split(',').any(|feature| feature == "client" || feature.starts_with("client-"))
        });
        if banned.contains(&name) {
            found.push(name.to_owned());
        } else if CLIENT_BY_FEATURE.contains(&name) && has_client {
            found.push(format!("{name} with its feature client"));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "trellis-server v0.1.0 (server) \n\
        hyper v1.12.0 default,http1,server\n\
        redbiome v1.0.0 \n\
        ringbuffer v1.0.0 client\n";

    #[test]
    fn a_clean_tree_passes() {
        assert!(intruders(CLEAN, &OUTSIDE_A_BARE_SERVER).is_empty());
        assert!(prove("this", CLEAN, &OUTSIDE_A_BARE_SERVER).is_ok());
    }

    #[test]
    fn a_storage_engine_or_tls_crate_is_named_with_the_way_out() {
        let tree = format!("{CLEAN}rustls v0.23.46 ring\nsled v0.34.7 \nsled v0.34.7 \n");
        let failed = prove("a bare server", &tree, &OUTSIDE_A_BARE_SERVER).unwrap_err();
        assert!(failed.message.starts_with("a bare server must not depend on rustls, sled: put"));
    }

    #[test]
    fn an_http_client_that_a_feature_turns_on_is_found() {
        let tree = "hyper v1.12.0 client,default,http1\nhyper-util v0.1.21 client-legacy,tokio\n";
        assert_eq!(
            intruders(tree, &OUTSIDE_A_BARE_SERVER),
            ["hyper with its feature client", "hyper-util with its feature client"]
        );
    }
}
