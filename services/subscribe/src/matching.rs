//! Finds what a commit touches: walks the trie along the keys of its effects.
//!
//! Invariant: the walk visits nodes whose segments fit a changed key, and, where a subtree was
//! emptied or an array changed, those below it. Below a wildcard there it lists the children that
//! were; beyond [`LOOKS_MAX`] of them it says so instead of naming each.

use std::collections::HashMap;

use bytes::Bytes;
use trellis_engine_traits::Result;
use trellis_tree::{Leaf, Path};

use crate::moment::{Moment, is_system};
use crate::pattern::any_matches;
use crate::trie::{Node, Trie};

/// Places below emptied subtrees that are looked at for one commit.
pub(crate) const LOOKS_MAX: usize = 10_000;
/// Children listed at a time.
const PAGE: usize = 500;

/// What can be registered in a trie: it knows itself by a number.
pub(crate) trait Registered: Clone {
    fn id(&self) -> u64;
}

/// What a commit touches of one registration.
#[derive(Debug)]
pub(crate) struct Touched<T> {
    pub(crate) item: T,
    /// Keys of the paths that fit and may have changed, each once.
    pub(crate) keys: Vec<Bytes>,
    /// There are more than were looked at.
    pub(crate) more: bool,
}

/// Everything that a commit touches.
#[derive(Debug)]
pub(crate) struct Matches<T> {
    pub(crate) touched: Vec<Touched<T>>,
    /// Nodes of the trie that were visited.
    pub(crate) visited: u64,
    places: HashMap<u64, usize>,
    looks: usize,
}

impl<T: Registered> Matches<T> {
    /// What `moment` touches of what `trie` holds.
    ///
    /// # Errors
    /// Those of reads of the state before the commit.
    pub(crate) fn find(trie: &Trie<T>, moment: &Moment<'_>) -> Result<Self> {
        let mut found = Self { touched: Vec::new(), visited: 0, places: HashMap::new(), looks: 0 };
        for key in moment.clears() {
            found.along(trie.root(), key, 0, 0, &mut |found, node| {
                found.below(node, key, Below::Emptied, moment)
            })?;
        }
        for (key, new) in moment.entries() {
            found.along(trie.root(), key, 0, 0, &mut |found, node| {
                if found.leads_into_array(node, key, *new, moment)? {
                    return found.below(node, key, Below::Array, moment);
                }
                Ok(())
            })?;
        }
        for touched in &mut found.touched {
            touched.keys.sort_unstable();
            touched.keys.dedup();
        }
        Ok(found)
    }

    /// Follows a key from its segment at byte `at` on; `end` is called at its last segment.
    fn along(
        &mut self,
        node: &Node<T>,
        key: &[u8],
        at: usize,
        depth: usize,
        end: &mut dyn FnMut(&mut Self, &Node<T>) -> Result<()>,
    ) -> Result<()> {
        self.visited += 1;
        if depth > 0 || !is_system(key) {
            let own = key.get(..at.saturating_sub(1)).unwrap_or_default();
            self.touch(node, if at > key.len() { key } else { own });
        }
        if at > key.len() || key.is_empty() {
            return end(self, node);
        }
        let rest = key.get(at..).unwrap_or_default();
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        let next = at + name.len() + 1;
        if let Some(child) = node.names.get(name) {
            self.along(child, key, next, depth + 1, end)?;
        }
        match &node.any {
            Some(child) if any_matches(depth, name) => self.along(child, key, next, depth + 1, end),
            _ => Ok(()),
        }
    }

    fn touch(&mut self, node: &Node<T>, key: &[u8]) {
        for item in &node.here {
            // Effects come in the order of their keys, so that what touches one path comes
            // together, as a rule.
            if let Some(touched) = self.touched(item)
                && touched.keys.last().is_none_or(|last| *last != key)
            {
                touched.keys.push(Bytes::copy_from_slice(key));
            }
        }
    }

    fn touched(&mut self, item: &T) -> Option<&mut Touched<T>> {
        let place = *self.places.entry(item.id()).or_insert_with(|| {
            self.touched.push(Touched { item: item.clone(), keys: Vec::new(), more: false });
            self.touched.len() - 1
        });
        self.touched.get_mut(place)
    }

    /// A leaf was or became an array, into which paths lead, and somebody watches such paths.
    fn leads_into_array(
        &self,
        node: &Node<T>,
        key: &[u8],
        new: Option<&[u8]>,
        moment: &Moment<'_>,
    ) -> Result<bool> {
        if !node.goes_on() {
            return Ok(false);
        }
        let is_array = |leaf: &Leaf| matches!(leaf, Leaf::Array(_));
        if new.map(Leaf::decode).transpose()?.as_ref().is_some_and(is_array) {
            return Ok(true);
        }
        let old = moment.before()?.leaf(&Path::from_key(key)?)?;
        Ok(old.as_ref().is_some_and(is_array))
    }

    /// Touches what is registered below a node whose path is `key`.
    fn below(&mut self, node: &Node<T>, key: &[u8], why: Below, moment: &Moment<'_>) -> Result<()> {
        for (name, child) in &node.names {
            self.visited += 1;
            let key = joined(key, name);
            self.touch(child, &key);
            self.below(child, &key, why, moment)?;
        }
        let Some(any) = &node.any else { return Ok(()) };
        // A wildcard stands for the keys of objects, never for places of arrays.
        if why == Below::Array {
            return Ok(());
        }
        let path = Path::from_key(key)?;
        let mut after: Option<String> = None;
        loop {
            if self.looks >= LOOKS_MAX {
                self.give_up(any);
                return Ok(());
            }
            let page = moment.before()?.children(&path, after.as_deref(), PAGE, None)?;
            for child in &page.items {
                self.looks += 1;
                self.visited += 1;
                let key = joined(key, child.key.as_bytes());
                self.touch(any, &key);
                self.below(any, &key, why, moment)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Marks everything at and below a node as touched in more places than can be told.
    fn give_up(&mut self, node: &Node<T>) {
        self.visited += 1;
        for item in &node.here {
            if let Some(touched) = self.touched(item) {
                touched.more = true;
            }
        }
        let nodes = node.names.values().chain(node.any.as_deref());
        nodes.for_each(|node| self.give_up(node));
    }
}

/// Why one looks below a changed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Emptied,
    Array,
}

fn joined(key: &[u8], name: &[u8]) -> Bytes {
    let mut joined = Vec::with_capacity(key.len() + 1 + name.len());
    joined.extend_from_slice(key);
    if !key.is_empty() {
        joined.push(0);
    }
    joined.extend_from_slice(name);
    joined.into()
}
