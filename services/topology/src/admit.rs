//! What a peer that dials in gets and gives: its grants, and whether the modes of both nodes fit.
//!
//! Zones of both nodes have to agree where one speaks of several: what a removal at `a` removes
//! must not depend on who reads it. So a zone inside what a peer follows, or pushes, is one at both
//! ends or it is left out.

use bytes::Bytes;
use trellis_tree::Scope;

use crate::kept::PUSHED;
use crate::message::{Hello, OfferedMode, Refusal, RefusalReason, ZoneOffer};
use crate::plan::{FillRule, LinkPlan, LinkPolicy, PeerIdentity, PullPart, PushPlan};
use crate::spec::Mode;
use crate::topology::{Grant, Merge, Topology, UPSTREAM, pull_plan};
use crate::zones::{Entry, Kind, covers, is_below, written};

/// What a peer was granted, all entries that name it together.
struct Granted<'a> {
    pull: Vec<Bytes>,
    /// Prefixes, with the number of the entry that grants them.
    push: Vec<(&'a Bytes, Merge, usize)>,
    forward: bool,
}

impl Granted<'_> {
    /// The grant of the longest prefix under which a key may be pushed.
    fn push_of(&self, key: &[u8]) -> Option<(Merge, usize)> {
        let covering = self.push.iter().filter(|(prefix, ..)| covers(prefix, key));
        let longest = covering.max_by_key(|(prefix, ..)| prefix.len());
        longest.map(|(_, merge, at)| (*merge, *at))
    }
}

impl OfferedMode {
    const fn is_pulled(self) -> bool {
        matches!(self, Self::Replica | Self::Readonly | Self::Source | Self::Sync)
    }

    const fn is_pushed(self) -> bool {
        matches!(self, Self::Primary | Self::Writeonly | Self::Sync)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Sync => "sync",
            Self::Readonly => "readonly",
            Self::Writeonly => "writeonly",
            Self::Source => "source",
            Self::Own => "own",
        }
    }
}

/// Answers as [`Topology::admit`] does for a node that knows no other.
impl LinkPolicy for Topology {
    fn admit(&self, peer: &PeerIdentity, hello: &Hello) -> Result<LinkPlan, Refusal> {
        Self::admit(self, peer, hello, &|_| None)
    }
}

impl Topology {
    /// The plan for a peer that dials in. `follows` tells the node at the other end of a link that
    /// this node makes, by its id, where it is known.
    ///
    /// # Errors
    /// `denied`, `push_not_accepted`, `dual_authority`, `no_authority`; `unsupported` where the
    /// zones of both nodes do not agree. The message names the path and what to write.
    pub fn admit(
        &self,
        peer: &PeerIdentity,
        hello: &Hello,
        follows: &dyn Fn(&str) -> Option<u128>,
    ) -> Result<LinkPlan, Refusal> {
        let granted = self.granted(peer)?;
        let served = self.served(&granted);
        let mut offers: Vec<&ZoneOffer> = hello.pull.iter().chain(&hello.push).collect();
        offers.sort_by(|one, other| one.prefix.cmp(&other.prefix));
        if offers.windows(2).any(|pair| matches!(pair, [one, other] if one.prefix == other.prefix))
        {
            return Err(Refusal::protocol("a zone is offered twice"));
        }
        for offer in &offers {
            if offer.mode.is_pulled() {
                self.check_pulled(offer, &served)?;
            }
            if offer.mode.is_pushed() {
                self.check_pushed(offer, &granted)?;
            }
        }
        self.refuse_circles(&hello.pull, hello.node, follows)?;
        self.check_borders(&offers, &served)?;
        let pulled = offers.iter().any(|offer| offer.mode.is_pulled());
        let forward = offers.iter().filter(|offer| offer.mode == OfferedMode::Replica);
        let others = offers.iter().filter(|offer| offer.mode != OfferedMode::Replica);
        let forward = if granted.forward {
            let keys = |offer: &&ZoneOffer| offer.prefix.clone();
            Scope { within: forward.map(keys).collect(), except: others.map(keys).collect() }
        } else {
            Scope::default()
        };
        Ok(LinkPlan {
            pull: self.taken(&offers, &granted, hello.node),
            kept: served.except.clone(),
            push: pulled.then_some(PushPlan { scope: served }),
            forward,
        })
    }

    fn granted(&self, peer: &PeerIdentity) -> Result<Granted<'_>, Refusal> {
        let Some(grants) = &self.grants else {
            return Ok(Granted { pull: vec![Bytes::new()], push: Vec::new(), forward: true });
        };
        let by_node = |grant: &Grant| grant.node.as_ref() == Some(&peer.name);
        let named = grants.iter().any(by_node);
        let counts = |grant: &Grant| match (&grant.node, &grant.role) {
            (Some(_), _) => by_node(grant),
            (None, Some(role)) => !named && peer.roles.contains(role),
            (None, None) => true,
        };
        let mut granted = Granted { pull: Vec::new(), push: Vec::new(), forward: false };
        let mut known = false;
        for (at, grant) in grants.iter().enumerate().filter(|(_, grant)| counts(grant)) {
            known = true;
            granted.forward |= grant.forward;
            granted.pull.extend(grant.pull.iter().cloned());
            granted.push.extend(grant.push.iter().map(|prefix| (prefix, grant.merge, at)));
        }
        if known {
            return Ok(granted);
        }
        let message = format!("no entry of replication.peers is about {}: add one", peer.name);
        Err(Refusal::new(RefusalReason::Denied, message))
    }

    /// What a peer may follow: what it was granted, without zones that are nobody's business and
    /// those that are followed only by whom they are granted by name.
    fn served(&self, granted: &Granted<'_>) -> Scope {
        let mut scope = Scope { within: granted.pull.clone(), except: Vec::new() };
        for entry in self.zones.entries() {
            if !granted.pull.iter().any(|prefix| covers(prefix, &entry.prefix)) {
                continue;
            }
            let by_name = matches!(entry.kind, Kind::Nonces | Kind::Rule(Mode::Writeonly));
            if entry.kind.is_private() || (by_name && !granted.pull.contains(&entry.prefix)) {
                scope.except.push(entry.prefix.clone());
            } else {
                scope.within.push(entry.prefix.clone());
            }
        }
        for list in [&mut scope.within, &mut scope.except] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    fn check_pulled(&self, offer: &ZoneOffer, served: &Scope) -> Result<(), Refusal> {
        let text = written(&offer.prefix);
        if !served.covers(&offer.prefix) {
            let message = format!(
                "{text} is {} at the peer, and the hub does not let the peer follow it: name it \
                 in `pull` of its entry in the hub's replication.peers",
                offer.mode.word()
            );
            return Err(Refusal::new(RefusalReason::Denied, message));
        }
        Ok(())
    }

    /// Refuses what a peer follows here, where this node follows that peer.
    pub(crate) fn refuse_circles(
        &self,
        offers: &[ZoneOffer],
        peer: u128,
        follows: &dyn Fn(&str) -> Option<u128>,
    ) -> Result<(), Refusal> {
        let exclusive =
            |offer: &&ZoneOffer| offer.mode.is_pulled() && offer.mode != OfferedMode::Sync;
        for offer in offers.iter().filter(exclusive) {
            let link = match self.zones.of(&offer.prefix).map(|entry| entry.kind) {
                Some(Kind::Source(at)) => self.sources.get(at).map(|source| source.id.as_str()),
                Some(Kind::Rule(Mode::Replica | Mode::Readonly) | Kind::Role(Mode::Replica)) => {
                    Some(UPSTREAM)
                }
                _ => None,
            };
            if link.and_then(follows) == Some(peer) {
                let text = written(&offer.prefix);
                let message = format!("{text} is followed by each of the two nodes at the other");
                return Err(Refusal::new(RefusalReason::NoAuthority, message));
            }
        }
        Ok(())
    }

    fn check_pushed(&self, offer: &ZoneOffer, granted: &Granted<'_>) -> Result<(), Refusal> {
        let text = written(&offer.prefix);
        let kind = self.zones.of(&offer.prefix).map_or(Kind::Excluded, |entry| entry.kind);
        let not_accepted = |why: &str| {
            let message = format!("{text} is {} at the peer, and {why}", offer.mode.word());
            Err(Refusal::new(RefusalReason::PushNotAccepted, message))
        };
        let own_there = offer.mode == OfferedMode::Primary;
        match (granted.push_of(&offer.prefix), kind) {
            (Some((Merge::Owner, at)), Kind::Owned(owner)) if at == owner => {
                if offer.mode == OfferedMode::Sync {
                    return not_accepted("the hub lets it own that; grant it with merge: lww");
                }
                Ok(())
            }
            (_, Kind::Owned(_)) | (None, Kind::Rule(Mode::Primary)) if own_there => {
                let message = format!(
                    "{text} is primary at both nodes: grant the peer to push it, or make it a \
                     replica at the peer"
                );
                Err(Refusal::new(RefusalReason::DualAuthority, message))
            }
            (None, _) => not_accepted(
                "the hub does not let the peer push it: name it in `push` of its entry in the \
                 hub's replication.peers",
            ),
            (Some(_), kind) if !kind.is_written_here() || kind.is_private() => {
                not_accepted(&format!("it is {} at the hub", kind.word()))
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Refuses zones of one node that the other does not know of and that are not left out.
    fn check_borders(&self, offers: &[&ZoneOffer], served: &Scope) -> Result<(), Refusal> {
        for entry in self.zones.entries() {
            let around = longest(offers, &entry.prefix);
            let unknown = around.is_some_and(|offer| {
                offer.mode.is_pulled() && is_below(&entry.prefix, &offer.prefix)
            });
            if unknown && served.covers(&entry.prefix) {
                return Err(border(&entry.prefix, "at the peer"));
            }
        }
        for offer in offers.iter().filter(|offer| offer.mode.is_pushed()) {
            let end = offer.prefix.iter().rposition(|byte| *byte == 0);
            let above = offer.prefix.get(..end.unwrap_or(0)).filter(|_| !offer.prefix.is_empty());
            let around = above.and_then(|above| longest(offers, above));
            let inside = around.is_some_and(|around| around.mode.is_pushed());
            if inside && self.zones.at(&offer.prefix).is_none() {
                return Err(border(&offer.prefix, "at the hub"));
            }
        }
        Ok(())
    }

    /// What this node takes from the peer.
    fn taken(
        &self,
        offers: &[&ZoneOffer],
        granted: &Granted<'_>,
        peer: u128,
    ) -> Option<crate::plan::PullPlan> {
        let (mut parts, mut except) = (Vec::new(), Vec::new());
        let part = |prefix: &Bytes, kind: Kind| {
            let owned = matches!(kind, Kind::Owned(_));
            let fill = if owned { FillRule::Replace } else { FillRule::Merge };
            PullPart { prefix: prefix.clone(), fill }
        };
        for offer in offers {
            if offer.mode.is_pushed() {
                let kind = self.zones.of(&offer.prefix).map_or(Kind::Excluded, |entry| entry.kind);
                parts.push(part(&offer.prefix, kind));
            } else {
                except.push(offer.prefix.clone());
            }
        }
        let inner = |entry: &&Entry| {
            longest(offers, &entry.prefix).is_some_and(|offer| {
                offer.mode.is_pushed() && is_below(&entry.prefix, &offer.prefix)
            })
        };
        for entry in self.zones.entries().iter().filter(inner) {
            let pushed = granted.push_of(&entry.prefix);
            let taken = match (pushed, entry.kind) {
                (Some((Merge::Owner, at)), Kind::Owned(owner)) => at == owner,
                (Some((Merge::Lww, _)), kind) => kind.is_written_here() && !kind.is_private(),
                _ => false,
            };
            if taken {
                parts.push(part(&entry.prefix, entry.kind));
            } else {
                except.push(entry.prefix.clone());
            }
        }
        parts.sort_by(|one, other| one.prefix.cmp(&other.prefix));
        except.retain(|key| parts.iter().any(|part| is_below(key, &part.prefix)));
        except.sort_unstable();
        except.dedup();
        let feed = format!("{PUSHED}{peer:032x}");
        (!parts.is_empty()).then(|| pull_plan(feed, parts, except, Bytes::new()))
    }
}

/// The offer of the longest prefix that covers a key.
fn longest<'a>(offers: &[&'a ZoneOffer], key: &[u8]) -> Option<&'a ZoneOffer> {
    let covering = offers.iter().filter(|offer| covers(&offer.prefix, key));
    covering.max_by_key(|offer| offer.prefix.len()).copied()
}

fn border(prefix: &[u8], place: &str) -> Refusal {
    let message = format!(
        "{} has a rule of its own at one of the two nodes only: add one {place} too, \
         or exclude it",
        written(prefix)
    );
    Refusal::new(RefusalReason::Unsupported, message)
}
