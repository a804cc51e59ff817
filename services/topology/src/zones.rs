//! The zones of a node: which rule holds at which path.
//!
//! Invariant: every prefix at which another rule begins is a zone; the longest one that covers a
//! key decides. The first zone is the root's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use trellis_tree::{Endings, Path, Scope, Tracking, Zone, Zoning};

use crate::spec::Mode;

/// Whose a zone is, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The system's own: never replicated, whatever is configured.
    System,
    /// Excluded: never replicated.
    Excluded,
    /// Nonces: consumed where they were issued, followed only by whom it is granted by name.
    Nonces,
    /// A rule's mode.
    Rule(Mode),
    /// What holds where no rule does: `Primary` or `Replica`.
    Role(Mode),
    /// The destination of the source of this number.
    Source(usize),
    /// A peer is its owner: the entry of this number.
    Owned(usize),
}

impl Kind {
    /// The mode, where it has one.
    pub(crate) const fn mode(self) -> Option<Mode> {
        match self {
            Self::Rule(mode) | Self::Role(mode) => Some(mode),
            _ => None,
        }
    }

    /// Whether the upstream is followed here.
    pub(crate) const fn is_pulled(self) -> bool {
        matches!(self.mode(), Some(Mode::Replica | Mode::Readonly | Mode::Sync))
    }

    /// Whether it is nobody else's business.
    pub(crate) const fn is_private(self) -> bool {
        matches!(self, Self::System | Self::Excluded)
    }

    /// Whether callers of this node write here.
    pub(crate) const fn is_written_here(self) -> bool {
        matches!(
            self,
            Self::System
                | Self::Excluded
                | Self::Nonces
                | Self::Rule(Mode::Primary | Mode::Sync | Mode::Writeonly)
                | Self::Role(Mode::Primary)
        )
    }

    /// Its word in status and messages.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Excluded => "excluded",
            Self::Nonces => "primary",
            Self::Rule(mode) | Self::Role(mode) => mode.word(),
            Self::Source(_) => "source",
            Self::Owned(_) => "owned",
        }
    }
}

/// A zone.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key of its prefix.
    pub(crate) prefix: Bytes,
    pub(crate) kind: Kind,
    /// Whether the upstream follows it: as its own mode says, or that around a destination.
    pub(crate) pushed: bool,
    pub(crate) zone: Zone,
}

/// The zones of a node.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    /// In the order of their prefixes; the first is the root's.
    entries: Vec<Entry>,
    by_prefix: HashMap<Bytes, usize>,
    prefix_bytes_max: usize,
}

impl Zones {
    /// The zones of these prefixes, the root's among them; none twice. Without an upstream nothing
    /// is pushed.
    pub(crate) fn new(mut kinds: Vec<(Bytes, Kind)>, upstream: bool) -> Self {
        kinds.sort_by(|one, other| one.0.cmp(&other.0));
        let mut zones = Self::default();
        for (at, (prefix, kind)) in kinds.into_iter().enumerate() {
            let around = zones.around(&prefix).is_some_and(|entry| entry.pushed);
            let pushed = match kind {
                Kind::Rule(mode) => {
                    upstream && matches!(mode, Mode::Primary | Mode::Sync | Mode::Writeonly)
                }
                Kind::Source(_) | Kind::Owned(_) => around,
                Kind::System | Kind::Excluded | Kind::Nonces | Kind::Role(_) => false,
            };
            let zone = Zone {
                id: u32::try_from(at).unwrap_or(u32::MAX),
                prefix_bytes: prefix.len(),
                tracking: Tracking::None,
                endings: Endings::Here,
            };
            zones.prefix_bytes_max = zones.prefix_bytes_max.max(prefix.len());
            zones.by_prefix.insert(prefix.clone(), at);
            zones.entries.push(Entry { prefix, kind, pushed, zone });
        }
        zones
    }

    /// Settles how each zone is kept.
    pub(crate) fn track(&mut self, mut how: impl FnMut(&Entry) -> (Tracking, Endings)) {
        for entry in &mut self.entries {
            let (tracking, endings) = how(entry);
            entry.zone = Zone { tracking, endings, ..entry.zone };
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The zone with exactly this prefix.
    pub(crate) fn at(&self, prefix: &[u8]) -> Option<&Entry> {
        self.by_prefix.get(prefix).and_then(|at| self.entries.get(*at))
    }

    /// The zone of a key: that of the longest prefix. `None` only without any zone.
    pub(crate) fn of(&self, key: &[u8]) -> Option<&Entry> {
        if key.len() <= self.prefix_bytes_max
            && let Some(entry) = self.at(key)
        {
            return Some(entry);
        }
        self.around(key)
    }

    /// The zone of the longest prefix strictly above a key.
    pub(crate) fn around(&self, key: &[u8]) -> Option<&Entry> {
        let from = key.get(..key.len().min(self.prefix_bytes_max + 1)).unwrap_or(key);
        let ends = from.iter().enumerate().rev().filter(|(_, byte)| **byte == 0);
        ends.filter_map(|(end, _)| self.at(key.get(..end)?))
            .next()
            .or_else(|| (!key.is_empty()).then(|| self.at(&[])).flatten())
    }

    /// The zones whose prefixes lie strictly below a key, in order.
    pub(crate) fn below(&self, key: &[u8]) -> &[Entry] {
        // Nothing sorts between a key and the first key below it.
        let start = self.entries.partition_point(|entry| entry.prefix.as_ref() <= key);
        let rest = self.entries.get(start..).unwrap_or_default();
        let count = rest.partition_point(|entry| covers(key, &entry.prefix));
        rest.get(..count).unwrap_or_default()
    }

    /// The scope of some zones.
    pub(crate) fn scope(&self, wanted: impl Fn(&Entry) -> bool) -> Scope {
        let mut scope = Scope::default();
        for entry in &self.entries {
            if wanted(entry) {
                scope.within.push(entry.prefix.clone());
            } else if self.around(&entry.prefix).is_some_and(&wanted) {
                scope.except.push(entry.prefix.clone());
            }
        }
        scope
    }
}

impl Zoning for Zones {
    fn zone(&self, key: &[u8]) -> Zone {
        const NOWHERE: Zone = Zone {
            id: u32::MAX,
            prefix_bytes: 0,
            tracking: Tracking::None,
            endings: Endings::Here,
        };
        self.of(key).map_or(NOWHERE, |entry| entry.zone)
    }

    fn carved(&self, key: &[u8]) -> Vec<Bytes> {
        let mut carved: Vec<Bytes> = Vec::new();
        for entry in self.below(key) {
            if !carved.last().is_some_and(|last| covers(last, &entry.prefix)) {
                carved.push(entry.prefix.clone());
            }
        }
        carved
    }

    fn kept(&self, key: &[u8]) -> Vec<Bytes> {
        let foreign = |entry: &&Entry| matches!(entry.kind, Kind::Source(_) | Kind::Owned(_));
        let mut kept: Vec<Bytes> = Vec::new();
        for entry in self.below(key).iter().filter(foreign) {
            if !kept.last().is_some_and(|last| covers(last, &entry.prefix)) {
                kept.push(entry.prefix.clone());
            }
        }
        kept
    }

    fn any_tracked(&self, key: &[u8]) -> bool {
        let tracked = |entry: &Entry| entry.zone.tracking != Tracking::None;
        self.of(key).is_some_and(tracked) || self.below(key).iter().any(tracked)
    }

    fn tracked(&self) -> Scope {
        self.scope(|entry| entry.zone.tracking != Tracking::None)
    }
}

/// Whether a key is an ancestor's or the same.
pub(crate) fn covers(ancestor: &[u8], key: &[u8]) -> bool {
    ancestor.is_empty()
        || key.strip_prefix(ancestor).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// Whether a key lies below another.
pub(crate) fn is_below(key: &[u8], ancestor: &[u8]) -> bool {
    key.len() > ancestor.len() && covers(ancestor, key)
}

/// A key as people write it; the root as `/`.
pub(crate) fn written(key: &[u8]) -> String {
    match Path::from_key(key) {
        Ok(path) if !path.is_root() => path.to_string(),
        _ => "/".to_owned(),
    }
}

/// A zone, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneStatus {
    /// Its prefix.
    pub path: Path,
    /// `system`, `excluded`, `source`, `owned` or the word of its mode.
    pub mode: &'static str,
    /// The id of the link that it follows or pushes to, where there is one.
    pub link: Option<Arc<str>>,
    /// Whether commits here are stamped.
    pub tracked: bool,
}
