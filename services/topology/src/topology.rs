//! [`Topology`]: what a node owns and follows, settled once; the plans of its links.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Path, Scope, Tracking, Zoning};

use crate::message::{OfferedMode, ZoneOffer};
use crate::plan::{DialPlan, FillRule, LinkPlan, PullPart, PullPlan, PushPlan};
use crate::spec::Mode;
use crate::zones::{Entry, Kind, ZoneStatus, Zones};

/// The id of the link to the upstream; those of sources have other ones.
pub const UPSTREAM: &str = "upstream";

/// A source, as it was configured.
#[derive(Debug, Clone)]
pub(crate) struct SourcePlan {
    pub(crate) id: String,
    pub(crate) url: String,
    /// In keys of the source, in order; none covers another.
    pub(crate) paths: Vec<Bytes>,
    pub(crate) except: Vec<Bytes>,
    pub(crate) local_prefix: Bytes,
}

impl SourcePlan {
    /// Whether the node at the other end could not tell the links of the two from each other.
    pub(crate) fn takes_the_same(&self, other: &Self) -> bool {
        let except = |plan: &Self| plan.except.iter().cloned().collect::<BTreeSet<_>>();
        self.url == other.url && self.paths == other.paths && except(self) == except(other)
    }
}

/// How what a peer pushes meets what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    Lww,
    Owner,
}

/// What peers of a node name or role may do.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) node: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) pull: Vec<Bytes>,
    pub(crate) push: Vec<Bytes>,
    pub(crate) merge: Merge,
    pub(crate) forward: bool,
}

/// A link that this node makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Names it in status: [`UPSTREAM`] or the id of a source.
    pub id: Arc<str>,
    /// Where to.
    pub url: String,
    /// What for.
    pub plan: DialPlan,
}

impl Dial {
    /// What is followed over it.
    #[must_use]
    pub fn feed(&self) -> Option<&str> {
        self.plan.link.pull.as_ref().map(|pull| pull.feed.as_str())
    }
}

/// What a node owns and follows, and where a write goes. Constant while the node is open; all
/// answers are from memory.
#[derive(Debug)]
pub struct Topology {
    pub(crate) zones: Arc<Zones>,
    /// Whether writes to replica paths are forwarded.
    pub(crate) proxy: bool,
    pub(crate) sources: Vec<SourcePlan>,
    pub(crate) grants: Option<Vec<Grant>>,
    dials: Vec<Dial>,
}

impl Topology {
    pub(crate) fn new(
        upstream: Option<String>,
        proxy: bool,
        zones: Zones,
        sources: Vec<SourcePlan>,
        grants: Option<Vec<Grant>>,
    ) -> Self {
        let upstream = upstream.map(|url| upstream_dial(url, proxy, &zones));
        let followed =
            sources.iter().enumerate().map(|(at, source)| source_dial(at, source, &zones));
        let dials = upstream.into_iter().flatten().chain(followed).collect();
        Self { zones: Arc::new(zones), proxy, sources, grants, dials }
    }

    /// The zones, for [`TreeOptions::zoning`](trellis_tree::TreeOptions).
    #[must_use]
    pub fn zoning(&self) -> Arc<dyn Zoning> {
        Arc::clone(&self.zones) as Arc<dyn Zoning>
    }

    /// The links that this node makes: to its upstream, if that is of any use, and to each source.
    #[must_use]
    pub fn dials(&self) -> &[Dial] {
        &self.dials
    }

    /// The link of this name that this node makes.
    ///
    /// # Errors
    /// `NotFound` when there is none, with those that there are.
    pub fn dial(&self, link: &str) -> Result<&Dial> {
        let found = self.dials.iter().find(|dial| dial.id.as_ref() == link);
        found.ok_or_else(|| {
            if self.dials.is_empty() {
                let message = "this node makes no links; ask the nodes that follow it";
                return Error::new(ErrorKind::NotFound, message);
            }
            let known: Vec<&str> = self.dials.iter().map(|dial| dial.id.as_ref()).collect();
            let error = Error::new(ErrorKind::NotFound, "this node makes no link of this name");
            error.context("links", known.join(", "))
        })
    }

    /// The feed over a link that this node makes, as [`Kept`](crate::Kept) names it.
    ///
    /// # Errors
    /// `NotFound` for no such link; `InvalidInput` for one over which nothing is followed.
    pub fn feed_of(&self, link: &str) -> Result<&str> {
        self.dial(link)?.feed().ok_or_else(|| {
            let message = "nothing is followed over this link";
            Error::new(ErrorKind::InvalidInput, message).context("link", link)
        })
    }

    /// The mode that holds at a path's key; `None` where a path is excluded, the system's own, a
    /// source's or a peer's.
    #[must_use]
    pub fn mode(&self, key: &[u8]) -> Option<Mode> {
        match self.zones.of(key)?.kind {
            Kind::Nonces => Some(Mode::Primary),
            kind => kind.mode(),
        }
    }

    /// Every zone, for status, in the order of prefixes.
    #[must_use]
    pub fn zone_status(&self) -> Vec<ZoneStatus> {
        let link = |entry: &Entry| match entry.kind {
            Kind::Source(at) => self.sources.get(at).map(|source| Arc::from(source.id.as_str())),
            kind if kind.is_pulled() || entry.pushed => Some(Arc::from(UPSTREAM)),
            _ => None,
        };
        let status = |entry: &Entry| ZoneStatus {
            path: Path::from_key(&entry.prefix).unwrap_or_default(),
            mode: entry.kind.word(),
            link: link(entry),
            tracked: entry.zone.tracking != Tracking::None,
        };
        self.zones.entries().iter().map(status).collect()
    }
}

/// The plan for the upstream; `None` when nothing is pulled or pushed.
fn upstream_dial(url: String, proxy: bool, zones: &Zones) -> Option<Dial> {
    let scope = zones.scope(|entry| entry.kind.is_pulled());
    let pulled = zones.entries().iter().filter(|entry| entry.kind.is_pulled());
    let parts: Vec<PullPart> = pulled
        .map(|entry| {
            let merged = entry.kind.mode() == Some(Mode::Sync);
            let fill = if merged { FillRule::Merge } else { FillRule::Replace };
            PullPart { prefix: entry.prefix.clone(), fill }
        })
        .collect();
    let pushed = zones.scope(|entry| entry.pushed);
    if parts.is_empty() && pushed.within.is_empty() {
        return None;
    }
    let pull = (!parts.is_empty())
        .then(|| pull_plan(UPSTREAM.to_owned(), parts, scope.except, Bytes::new()));
    let push = (!pushed.within.is_empty()).then_some(PushPlan { scope: pushed });
    let forward = if proxy {
        zones.scope(|entry| entry.kind.mode() == Some(Mode::Replica))
    } else {
        Scope::default()
    };
    let (mut pull_offers, mut push_offers) = (Vec::new(), Vec::new());
    for entry in zones.entries() {
        let touched = |entry: &Entry| entry.kind.is_pulled() || entry.pushed;
        let carved = zones.around(&entry.prefix).is_some_and(touched);
        let mode = match entry.kind {
            _ if entry.pushed && entry.kind.mode().is_none() => OfferedMode::Primary,
            Kind::Rule(mode) | Kind::Role(mode) if touched(entry) => offered(mode),
            _ if carved => OfferedMode::Own,
            _ => continue,
        };
        let offer = ZoneOffer { prefix: entry.prefix.clone(), mode };
        let list = match mode {
            OfferedMode::Primary | OfferedMode::Writeonly => &mut push_offers,
            _ => &mut pull_offers,
        };
        list.push(offer);
    }
    let link = LinkPlan { pull, push, forward, kept: Vec::new() };
    let plan = DialPlan { link, pull: pull_offers, push: push_offers };
    Some(Dial { id: UPSTREAM.into(), url, plan })
}

const fn offered(mode: Mode) -> OfferedMode {
    match mode {
        Mode::Primary => OfferedMode::Primary,
        Mode::Replica => OfferedMode::Replica,
        Mode::Sync => OfferedMode::Sync,
        Mode::Readonly => OfferedMode::Readonly,
        Mode::Writeonly => OfferedMode::Writeonly,
    }
}

fn source_dial(at: usize, source: &SourcePlan, zones: &Zones) -> Dial {
    let fill = FillRule::Replace;
    let part = |prefix: &Bytes| PullPart { prefix: prefix.clone(), fill };
    let parts: Vec<PullPart> = source.paths.iter().map(part).collect();
    let mut except = source.except.clone();
    let mut offers = Vec::new();
    for prefix in &source.paths {
        offers.push(ZoneOffer { prefix: prefix.clone(), mode: OfferedMode::Source });
        let local = crate::remap::prefixed(&source.local_prefix, prefix);
        // What this node holds otherwise below the destination, as the source names it.
        for carved in zones.carved(&local) {
            if zones.at(&carved).is_some_and(|entry| entry.kind != Kind::Source(at)) {
                let skipped =
                    if source.local_prefix.is_empty() { 0 } else { source.local_prefix.len() + 1 };
                except.push(carved.slice(skipped.min(carved.len())..));
            }
        }
    }
    except.sort_unstable();
    except.dedup();
    let own = |prefix: &Bytes| ZoneOffer { prefix: prefix.clone(), mode: OfferedMode::Own };
    offers.extend(except.iter().map(own));
    let feed = format!("source-{}", source.id);
    let pull = pull_plan(feed, parts, except, source.local_prefix.clone());
    let link = LinkPlan { pull: Some(pull), ..LinkPlan::default() };
    let plan = DialPlan { link, pull: offers, push: Vec::new() };
    Dial { id: source.id.as_str().into(), url: source.url.clone(), plan }
}

/// A plan with its fingerprint: what is pulled, how it is filled and where it is kept.
pub(crate) fn pull_plan(
    feed: String,
    parts: Vec<PullPart>,
    except: Vec<Bytes>,
    local_prefix: Bytes,
) -> PullPlan {
    let mut text = Vec::new();
    let mut add = |what: u8, key: &[u8]| {
        text.push(what);
        text.extend_from_slice(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
        text.extend_from_slice(key);
    };
    for part in &parts {
        let what = match part.fill {
            FillRule::Replace => 0,
            FillRule::Merge => 1,
        };
        add(what, &part.prefix);
    }
    for prefix in &except {
        add(2, prefix);
    }
    add(3, &local_prefix);
    let fingerprint = xxhash_rust::xxh3::xxh3_64(&text);
    PullPlan { feed, parts, except, local_prefix, fingerprint }
}
