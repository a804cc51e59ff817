//! [`Trie`]: patterns by their segments, so that who is touched is found along a key.
//!
//! Invariant: looking along a key visits the nodes whose segments fit it and no other; how many
//! patterns lie elsewhere costs nothing. No node is kept that neither holds nor leads to an item.

use std::collections::HashMap;

use crate::pattern::Pattern;

/// Items by pattern.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

/// A place in the trie: what is registered here, and where it goes on.
#[derive(Debug)]
pub(crate) struct Node<T> {
    pub(crate) names: HashMap<Box<[u8]>, Self>,
    pub(crate) any: Option<Box<Self>>,
    pub(crate) here: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { names: HashMap::new(), any: None, here: Vec::new() }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.any.is_none() && self.here.is_empty()
    }

    /// Whether patterns go on from here.
    pub(crate) fn goes_on(&self) -> bool {
        !self.names.is_empty() || self.any.is_some()
    }

    fn remove<'a>(
        &mut self,
        mut rest: impl Iterator<Item = Option<&'a str>>,
        is_it: &dyn Fn(&T) -> bool,
    ) {
        match rest.next() {
            None => self.here.retain(|item| !is_it(item)),
            Some(None) => {
                if let Some(any) = &mut self.any {
                    any.remove_boxed(&mut rest, is_it);
                    if any.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(Some(name)) => {
                if let Some(node) = self.names.get_mut(name.as_bytes()) {
                    node.remove_boxed(&mut rest, is_it);
                    if node.is_empty() {
                        self.names.remove(name.as_bytes());
                    }
                }
            }
        }
    }

    /// As [`Node::remove`], one type whatever the depth.
    fn remove_boxed<'a>(
        &mut self,
        rest: &mut dyn Iterator<Item = Option<&'a str>>,
        is_it: &dyn Fn(&T) -> bool,
    ) {
        self.remove(rest, is_it);
    }
}

impl<T> Trie<T> {
    pub(crate) fn root(&self) -> &Node<T> {
        &self.root
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, item: T) {
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = match segment {
                None => node.any.get_or_insert_default(),
                Some(name) => node.names.entry(name.as_bytes().into()).or_default(),
            };
        }
        node.here.push(item);
    }

    /// Removes the items of a pattern that `is_it` picks.
    pub(crate) fn remove(&mut self, pattern: &Pattern, is_it: &dyn Fn(&T) -> bool) {
        self.root.remove_boxed(&mut pattern.segments(), is_it);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_leaves_no_node_behind() {
        let mut trie = Trie::default();
        let patterns = ["", "a", "a/b", "a/*", "*/b/*", "a/b/c/d"];
        for (item, text) in patterns.iter().enumerate() {
            trie.insert(&Pattern::parse(text).unwrap(), item);
            trie.insert(&Pattern::parse(text).unwrap(), item + 100);
        }
        for (item, text) in patterns.iter().enumerate() {
            trie.remove(&Pattern::parse(text).unwrap(), &|own| *own == item);
            assert!(!trie.is_empty());
        }
        for text in patterns {
            trie.remove(&Pattern::parse(text).unwrap(), &|own| *own >= 100);
        }
        assert!(trie.is_empty());
    }
}
