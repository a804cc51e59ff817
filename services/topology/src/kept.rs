//! [`Kept`]: what a node keeps below `_repl` that an operator sees and acts on, with links or
//! without: how far feeds are, which are to be filled anew, followers, and what was set aside.
//!
//! Invariants: all of it is in the tree, nothing is remembered here. A running node keeps its
//! followers in memory too: they are asked of and dropped by [`Node`](crate::Node) while there is
//! one.

use std::ops::ControlFlow;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Commit, Input, Operation, Path, Tree, View};

use crate::message::LogPosition;
use crate::plan::DialPlan;
use crate::position::FeedPosition;
use crate::reads;
use crate::slots::{Slot, SlotStatus, read_slot};

/// How the names of feeds begin that peers push.
pub(crate) const PUSHED: &str = "from-";
/// Names listed at a time.
const NAMES_AT_A_TIME: usize = 1000;
/// What was set aside that is listed at most.
const SET_ASIDES_MAX: usize = 1000;

/// What was set aside before it was replaced: ordinary data at `_repl/set_aside/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// `<feed>/<source>-<rev>`: the feed, the first digits of its source's id, and the source's
    /// commit at which it was filled anew.
    pub name: String,
    /// Leaves of it.
    pub leaves: u64,
}

/// A feed as it was written last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFeed {
    /// The feed's name.
    pub feed: String,
    /// How far it is; `None` when it begins anew.
    pub position: Option<FeedPosition>,
    /// Whether it was asked to be filled anew, and has not begun.
    pub resync: bool,
}

/// What a tree keeps for replication. Reads cost a view; what is changed is durable on return.
#[derive(Debug, Clone)]
pub struct Kept(Tree);

impl Kept {
    /// Of this tree, whether it is a node's or was opened without links.
    #[must_use]
    pub fn new(tree: Tree) -> Self {
        Self(tree)
    }

    /// The node's id: 32 hexadecimal digits.
    #[must_use]
    pub fn node(&self) -> String {
        format!("{:032x}", self.0.node_id())
    }

    /// The newest commit.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.0.position().rev
    }

    /// The feeds that were followed, or are to be.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn feeds(&self) -> Result<Vec<KeptFeed>> {
        let view = self.0.view()?;
        let mut names = names(&view, &Path::from_segments(["_repl", "feeds"])?)?;
        let asked = names_asked(&view)?;
        names.extend(asked.iter().cloned());
        names.sort_unstable();
        names.dedup();
        let feed = |feed: String| {
            let stored = FeedPosition::from_json(&view.get(&FeedPosition::path(&feed)?)?);
            let position = stored.filter(|position| !position.is_void());
            Ok(KeptFeed { resync: asked.contains(&feed), feed, position })
        };
        names.into_iter().map(feed).collect()
    }

    /// The feeds that are to be filled anew.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn resyncs(&self) -> Result<Vec<String>> {
        names_asked(&self.0.view()?)
    }

    /// Has a feed filled anew once its node is linked; asked twice it happens once.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment; those of the tree.
    pub fn ask_resync(&self, feed: &str) -> Result<()> {
        let value = Input::from_json(true.into())?;
        self.0.commit(Commit { system: true, ..Commit::set(resync_path(feed)?, value) })?;
        Ok(())
    }

    /// The followers, as they were written last: none of them is connected.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads a record of the journal for each follower that is behind.
    pub fn slots(&self, wall_ms: u64) -> Result<Vec<SlotStatus>> {
        let head = self.0.position().rev;
        let stored = self.0.view()?.get(&Path::from_segments(["_repl", "slots"])?)?;
        let mut found = Vec::new();
        for (consumer, value) in stored.as_object().into_iter().flatten() {
            // A restored copy holds the slots of the node that it is a copy of.
            let slot = read_slot(value).filter(|slot| slot.at.log_id == self.0.node_id());
            let Some(Slot { owner, at, seen_ms, invalid, .. }) = slot else { continue };
            let age = |at_ms: u64| Duration::from_millis(wall_ms.saturating_sub(at_ms));
            found.push(SlotStatus {
                consumer: consumer.clone(),
                owner,
                rev: at.rev,
                lag_revs: head.saturating_sub(at.rev),
                lag: reads::made_at(&self.0, at.rev)?.map(|made| made.map_or(Duration::ZERO, age)),
                // Nobody wrote down how many bytes lie before which commit.
                lag_bytes: 0,
                active: false,
                idle: age(seen_ms),
                invalid,
            });
        }
        Ok(found)
    }

    /// Forgets a follower of a node that is not running; whether there was one.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment; those of the tree.
    pub fn drop_slot(&self, consumer: &str) -> Result<bool> {
        self.remove(Path::from_segments(["_repl", "slots", consumer])?)
    }

    /// What was set aside, in the order of names, a thousand at most.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads all of it.
    pub fn set_asides(&self) -> Result<Vec<SetAside>> {
        let view = self.0.view()?;
        let mut found = Vec::new();
        let root = set_aside_root()?;
        for feed in names(&view, &root)? {
            let of_feed = root.child(&feed)?;
            for id in names(&view, &of_feed)? {
                if found.len() == SET_ASIDES_MAX {
                    return Ok(found);
                }
                let mut leaves = 0;
                view.leaves(&of_feed.child(&id)?, None, &mut |_, _| {
                    leaves += 1;
                    ControlFlow::Continue(())
                })?;
                found.push(SetAside { name: format!("{feed}/{id}"), leaves });
            }
        }
        Ok(found)
    }

    /// How many copies were set aside, a thousand at most for each feed.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn set_aside_count(&self) -> Result<usize> {
        let (view, root) = (self.0.view()?, set_aside_root()?);
        let count = |feed: String| {
            Ok(view.children(&root.child(&feed)?, None, SET_ASIDES_MAX, None)?.items.len())
        };
        names(&view, &root)?.into_iter().map(count).sum()
    }

    /// Removes what was set aside under a name of [`Kept::set_asides`]; whether there was any.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; those of the tree.
    pub fn drop_set_aside(&self, name: &str) -> Result<bool> {
        let Some((feed, id)) = name.split_once('/').filter(|(_, id)| !id.contains('/')) else {
            let message = "what was set aside has a name such as upstream/0123456789abcdef-7";
            return Err(Error::new(ErrorKind::InvalidInput, message).context("name", name));
        };
        self.remove(set_aside_root()?.child(feed)?.child(id)?)
    }

    fn remove(&self, path: Path) -> Result<bool> {
        if !self.0.view()?.exists(&path)? {
            return Ok(false);
        }
        self.0.commit(Commit { system: true, ..Commit::delete(path) })?;
        Ok(true)
    }

    /// The stored position of a feed, void if the feed is to be filled anew: written so before it
    /// is answered, so that nothing brings the old one back.
    pub(crate) fn position(&self, feed: &str) -> Result<Option<FeedPosition>> {
        if self.0.view()?.exists(&resync_path(feed)?)? {
            self.begin_anew(feed)?;
        }
        Ok(FeedPosition::from_json(&self.0.view()?.get(&FeedPosition::path(feed)?)?))
    }

    /// Has feeds begin anew that were written under another plan than theirs of today, and those
    /// that have none: under it this node may have written what it only follows again later. To
    /// be called at each start, whether or not a link comes up under the plan. Where there is no
    /// room it says so in the log; a comparison finds then what differs.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn begin_changed<'a>(&self, plans: impl Iterator<Item = &'a DialPlan>) -> Result<()> {
        let pulls = plans.filter_map(|plan| plan.link.pull.as_ref());
        let today: Vec<_> = pulls.map(|pull| (pull.feed.as_str(), pull.fingerprint)).collect();
        for kept in self.feeds()? {
            let Some(position) = kept.position else { continue };
            // What peers push is planned when they come.
            let dialed = !kept.feed.starts_with(PUSHED);
            if !dialed || today.contains(&(kept.feed.as_str(), position.fingerprint)) {
                continue;
            }
            match self.begin_anew(&kept.feed) {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(feed = %kept.feed, %error, "a changed feed goes on as it was");
                }
                begun => begun?,
            }
        }
        Ok(())
    }

    /// Has nothing be left of how far a feed was but whose it was, and nothing of the wish to fill
    /// it anew: in one commit.
    pub(crate) fn begin_anew(&self, feed: &str) -> Result<()> {
        let view = self.0.view()?;
        let mut operations = Vec::new();
        if view.exists(&resync_path(feed)?)? {
            operations.push(Operation::Delete { path: resync_path(feed)? });
        }
        let stored = FeedPosition::from_json(&view.get(&FeedPosition::path(feed)?)?);
        if let Some(position) = stored.filter(|position| !position.is_void()) {
            let at = LogPosition::default();
            let void = FeedPosition { at, fill: None, complete_at: u64::MAX, ..position };
            let (path, value) = void.note(feed)?;
            operations.push(Operation::Set { path, value, expiry: None });
        }
        if !operations.is_empty() {
            self.0.commit(Commit { system: true, operations, ..Commit::default() })?;
        }
        Ok(())
    }
}

fn resync_path(feed: &str) -> Result<Path> {
    Path::from_segments(["_repl", "resync", feed])
}

fn set_aside_root() -> Result<Path> {
    Path::from_segments(["_repl", "set_aside"])
}

fn names_asked(view: &View) -> Result<Vec<String>> {
    names(view, &Path::from_segments(["_repl", "resync"])?)
}

/// The names below a path, a thousand at most: links are fewer.
fn names(view: &View, path: &Path) -> Result<Vec<String>> {
    let page = view.children(path, None, NAMES_AT_A_TIME, None)?;
    Ok(page.items.into_iter().map(|child| child.key).collect())
}
