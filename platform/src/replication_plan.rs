//! From what is written under `replication` to a topology, and to the options of a node.
//!
//! Invariants: a mistake is refused before anything is opened, with its key and a remedy; no error
//! holds a token or what stands in a token's file.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, LinkToken, Result};
use trellis_topology::{
    NodeOptions, SessionOptions, SlotOptions, Topology, TopologySpec, UPSTREAM,
};

use crate::peer_entrance::{PeerPass, TOKEN_BYTES_MIN};
use crate::replication_config::ReplicationConfig;
use crate::secret::Secret;

/// Leaves of a page.
const PAGE_ITEMS: RangeInclusive<u32> = 1..=5_000;
/// Journal for a follower: a batch has to fit.
const TAIL_BYTES_MIN: u64 = 64 << 10;
/// Links of peers, and those of them that are filled at once.
const LINKS: RangeInclusive<usize> = 1..=10_000;
/// Bytes of a node's name.
const NAME_BYTES_MAX: usize = 64;
/// How long a forwarded write waits for its answer.
const FORWARD_WAIT: Duration = Duration::from_secs(10);

fn refused<T>(key: &str, message: &str, remedy: &str) -> Result<T> {
    let text = format!("{key}: {message}; {remedy}");
    Err(Error::new(ErrorKind::InvalidInput, text).operation("open"))
}

/// What holds where, by a configuration.
pub(crate) fn topology(config: &ReplicationConfig) -> Result<Arc<Topology>> {
    check_figures(config)?;
    check_credentials(config)?;
    let spec = TopologySpec {
        role: config.role.clone(),
        primary_url: config.primary_url.clone(),
        paths: config.paths.iter().map(|path| path.spec()).collect(),
        sources: config.sources.iter().map(|source| source.spec()).collect(),
        exclude_prefixes: config.exclude_prefixes.clone(),
        write_proxy: config.write_proxy.clone(),
        peers: config.peers.as_ref().map(|peers| peers.iter().map(|peer| peer.spec()).collect()),
    };
    let compiled = Topology::compile(&spec).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, error.to_string()).operation("open")
    })?;
    Ok(Arc::new(compiled))
}

fn check_figures(config: &ReplicationConfig) -> Result<()> {
    if !PAGE_ITEMS.contains(&config.batch_size) {
        return refused("replication.batchSize", "it is out of bounds", "write 1 to 5000");
    }
    if config.max_tail_bytes < TAIL_BYTES_MIN {
        let remedy = "write at least 65536: a follower that is away is filled anew instead";
        return refused("replication.maxTailBytes", "it is too small", remedy);
    }
    for (key, time) in [
        ("replication.maxTailAge", config.max_tail_age),
        ("replication.slotIdleTimeout", config.slot_idle_timeout),
    ] {
        if time.is_zero() {
            return refused(key, "it is zero", "write a duration such as 24h");
        }
    }
    for (key, figure) in
        [("replication.linksMax", config.links_max), ("replication.fillsMax", config.fills_max)]
    {
        if !LINKS.contains(&figure) {
            return refused(key, "it is out of bounds", "write 1 to 10000");
        }
    }
    match &config.name {
        Some(name) if !(1..=NAME_BYTES_MAX).contains(&name.len()) => {
            refused("replication.name", "it is no name", "write 1 to 64 bytes")
        }
        _ => Ok(()),
    }
}

/// The addresses that are dialed, each with its key.
fn addresses(config: &ReplicationConfig) -> impl Iterator<Item = (String, &str)> {
    let upstream = config.primary_url.iter();
    let upstream = upstream.map(|url| ("replication.primaryUrl".to_owned(), url.as_str()));
    let sources = config.sources.iter().enumerate();
    upstream
        .chain(sources.map(|(at, source)| (format!("replication.sources[{at}].url"), &*source.url)))
}

/// Refuses credentials in addresses: those are shown.
fn check_credentials(config: &ReplicationConfig) -> Result<()> {
    match addresses(config).find(|(_, url)| url.contains('@')) {
        Some((key, _)) => {
            let remedy = "leave them out of the address, and set the token beside it";
            refused(&key, "it holds credentials", remedy)
        }
        None => Ok(()),
    }
}

/// Refuses addresses that a transport of this scheme cannot dial.
pub(crate) fn check_addresses(config: &ReplicationConfig, scheme: &str) -> Result<()> {
    for (key, url) in addresses(config) {
        if url.contains(['?', '#']) {
            // It may be a secret.
            let remedy = "leave out what begins with ? or #, and set the token beside the address";
            return refused(&key, "it is more than an address", remedy);
        }
        let own = url.split_once(':').map(|(own, _)| own);
        let remedy = match (scheme, own) {
            ("ws", Some("wss" | "https")) => {
                "a node does not speak TLS itself: write the ws: address of a tunnel or proxy"
            }
            ("ws", Some("ws")) if names_a_host(url) => continue,
            ("ws", _) => "write an address such as ws://host:4400/db",
            (scheme, Some(own)) if own == scheme => continue,
            _ => "write an address such as loopback:hub",
        };
        return refused(&key, &format!("{url} is no `{scheme}:` address"), remedy);
    }
    Ok(())
}

/// Whether there is a host after the `ws://`, and a port if anything is behind a colon.
fn names_a_host(url: &str) -> bool {
    let authority = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
    let authority = authority.unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    };
    let fine = |byte: u8| byte.is_ascii_graphic();
    !host.is_empty() && url.bytes().all(fine) && port.parse().is_ok_and(|port: u16| port > 0)
}

/// What links are dialed with, by their ids.
fn tokens(config: &ReplicationConfig) -> Result<BTreeMap<String, LinkToken>> {
    let mut tokens = BTreeMap::new();
    let own = token("replication", config.token.as_ref(), config.token_file.as_deref())?;
    tokens.extend(own.map(|(token, _)| (UPSTREAM.to_owned(), token)));
    for (at, source) in config.sources.iter().enumerate() {
        let key = format!("replication.sources[{at}]");
        let token = token(&key, source.token.as_ref(), source.token_file.as_deref())?;
        tokens.extend(token.map(|(token, _)| (source.id.clone(), token)));
    }
    Ok(tokens)
}

/// Who is let in, by what they show.
pub(crate) fn passes(config: &ReplicationConfig) -> Result<Vec<PeerPass>> {
    let mut passes: Vec<(PeerPass, String)> = Vec::new();
    for (at, peer) in config.peers.iter().flatten().enumerate() {
        let key = format!("replication.peers[{at}]");
        let shown = token(&key, peer.token.as_ref(), peer.token_file.as_deref())?;
        let Some((token, token_key)) = shown else { continue };
        if token.reveal().len() < TOKEN_BYTES_MIN {
            let message = "it has fewer than 16 bytes";
            return refused(&token_key, message, "use a long random one");
        }
        let pass = PeerPass { name: peer.node.clone(), role: peer.role.clone(), token };
        match passes.iter().find(|(other, _)| other.token == pass.token) {
            // The entries add up.
            Some((other, _)) if *other == pass => {}
            Some((_, other)) => {
                let message = format!("it is that of {other} too, which is about others");
                return refused(&token_key, &message, "give each its own");
            }
            None => passes.push((pass, key)),
        }
    }
    Ok(passes.into_iter().map(|(pass, _)| pass).collect())
}

/// A token, from where it is written or from its file, and the key that names it there.
fn token(
    key: &str,
    token: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<(LinkToken, String)>> {
    let mut key = format!("{key}.token");
    let token = match (token, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return refused(&format!("{key}File"), "token is set as well", "keep one of the two");
        }
        (Some(token), None) => token.token().clone(),
        (None, Some(file)) => {
            key.push_str("File");
            let text = std::fs::read_to_string(file).map_err(|source| {
                let what = format!("{key}: the file cannot be read");
                crate::data_directory::io_error(&what, file, source)
            })?;
            LinkToken::new(text.trim())
        }
    };
    // One line of visible letters, as a header holds it.
    let fine = |byte: u8| byte.is_ascii_graphic();
    let remedy = "write visible ASCII letters without spaces, or leave it out";
    if token.reveal().is_empty() {
        return refused(&key, "it is empty", remedy);
    }
    if !token.reveal().bytes().all(fine) {
        return refused(&key, "it holds a space, or what is no ASCII letter", remedy);
    }
    Ok(Some((token, key)))
}

/// The options of the node of a log.
pub(crate) fn node_options(config: &ReplicationConfig, log_id: &str) -> Result<NodeOptions> {
    let (slots, session) = (SlotOptions::default(), SessionOptions::default());
    // With more followers positions have to be written more rarely, or they would wake each other.
    let skips = 4 * u64::try_from(config.links_max).unwrap_or(u64::MAX / 4);
    let digits: String = log_id.chars().take(8).collect();
    Ok(NodeOptions {
        name: config.name.clone().unwrap_or_else(|| format!("node-{digits}")),
        tokens: tokens(config)?,
        session: SessionOptions {
            page_items: config.batch_size,
            verify_every: config.verify_every,
            skips_unwritten_max: session.skips_unwritten_max.max(skips),
            ..session
        },
        slots: SlotOptions {
            tail_bytes_max: config.max_tail_bytes,
            tail_age_max: config.max_tail_age,
            idle_max: config.slot_idle_timeout,
            slots_max: slots.slots_max.max(config.links_max),
            fills_at_once: config.fills_max,
            ..slots
        },
        links_max: config.links_max,
        forward_wait: FORWARD_WAIT,
    })
}
