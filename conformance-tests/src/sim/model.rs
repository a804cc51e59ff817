//! What the nodes should agree on: every commit's changes as their author meant them, merged anew
//! from the beginning, by the two rules alone.
//!
//! Shares no code with the merge: it keeps every record for ever and asks of each live one whether
//! any other hides it. What is given way to goes on hiding, which is what makes the order of
//! arrival immaterial.

use std::collections::{BTreeMap, BTreeSet};

use trellis_tree::Version;

/// A key: segments joined by 0x00.
pub(super) type Key = Vec<u8>;
/// Leaves by their keys, each in its JSON text.
pub(super) type Leaves = BTreeMap<Key, String>;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: Key,
    /// The leaf's JSON text; `None`: everything at and below goes.
    pub(super) leaf: Option<String>,
}

/// A commit, as its author meant it.
#[derive(Debug, Clone)]
pub(super) struct Deed {
    /// The idempotency key of the wish.
    pub(super) key: String,
    /// The node at which it was committed.
    pub(super) node: usize,
    /// That node's history.
    pub(super) log: String,
    pub(super) rev: u64,
    /// When, on the clock of the simulation.
    pub(super) at: u64,
    pub(super) version: Version,
    pub(super) changes: Vec<Change>,
    /// What may have ended since: of these subtrees the model knows nothing.
    pub(super) ends: bool,
    /// It was acknowledged by a history that is gone: its peers may have it or not.
    pub(super) maybe: bool,
    /// Its node came back from a backup of it, where nothing tells its version: unless a peer had
    /// it before, whatever another node wrote or removed wins, older or not.
    pub(super) unversioned: bool,
}

/// A part of the tree as one node names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: usize,
    pub(super) prefix: Key,
}

/// A part of the tree that holds what its authors wrote there, at each of its members.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: String,
    /// Where it is.
    pub(super) members: Vec<Place>,
    /// Whose commits make it up.
    pub(super) authors: Vec<Place>,
    /// Parts, seen from the prefix, that belong to another group.
    pub(super) except: Vec<Key>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) deeds: Vec<Deed>,
}

#[derive(Debug)]
struct Record<'a> {
    key: Key,
    version: Version,
    leaf: Option<&'a str>,
}

/// Whether `key` is `above` or lies below it.
pub(super) fn covers(above: &[u8], key: &[u8]) -> bool {
    above.is_empty()
        || key.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// A key seen from a prefix; the empty key for what lies above it.
fn seen_from(prefix: &[u8], key: &[u8]) -> Option<Key> {
    if covers(prefix, key) {
        let rest = &key[prefix.len()..];
        return Some(rest.strip_prefix(&[0]).filter(|_| !prefix.is_empty()).unwrap_or(rest).into());
    }
    covers(key, prefix).then(Key::new)
}

/// A text of a key, for people.
pub(super) fn readable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "/")
}

impl Group {
    /// Whether a key, seen from the prefix, belongs to it. A leaf above what belongs to another
    /// group is only where nothing is below it: nobody can say.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        !self.except.iter().any(|other| covers(other, key))
    }

    /// Whether a leaf may be missing because something of another group is below it.
    pub(super) fn may_give_way(&self, key: &[u8]) -> bool {
        self.except.iter().any(|other| covers(key, other))
    }
}

/// What a group should hold.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) leaves: Leaves,
    /// Subtrees of which the model knows nothing, seen from the prefix.
    pub(super) unknown: Vec<Key>,
}

impl Expected {
    pub(super) fn knows(&self, key: &[u8]) -> bool {
        !self.unknown.iter().any(|other| covers(other, key) || covers(key, other))
    }
}

impl Model {
    /// What a group's members hold when everything has arrived.
    pub(super) fn expected(&self, group: &Group) -> Expected {
        let mut expected = Expected::default();
        let mut records: BTreeMap<Key, Record<'_>> = BTreeMap::new();
        for deed in &self.deeds {
            for author in group.authors.iter().filter(|author| author.node == deed.node) {
                for change in &deed.changes {
                    let Some(key) = seen_from(&author.prefix, &change.key) else { continue };
                    if !group.holds(&key) {
                        continue;
                    }
                    let above = !covers(&author.prefix, &change.key);
                    let leaf = change.leaf.as_deref().filter(|_| !above);
                    let open = deed.unversioned && group.authors.len() > 1;
                    if deed.ends || deed.maybe || open {
                        expected.unknown.push(key.clone());
                    }
                    // Where one node writes, its revs tell what is newer, also of what nobody
                    // else sees and has no version.
                    let alone = Version { hlc: deed.rev, origin: 0 };
                    let version = if group.authors.len() == 1 { alone } else { deed.version };
                    // Of one path and commit the leaf is what it came to.
                    let record = Record { key: key.clone(), version, leaf };
                    let rank = (record.version, record.leaf);
                    if records.get(&key).is_none_or(|other| (other.version, other.leaf) < rank) {
                        records.insert(key, record);
                    }
                }
            }
        }
        for record in records.values() {
            let Some(leaf) = record.leaf else { continue };
            if !is_hidden(&records, record) {
                expected.leaves.insert(record.key.clone(), leaf.to_owned());
            }
        }
        expected
    }
}

fn is_hidden(records: &BTreeMap<Key, Record<'_>>, record: &Record<'_>) -> bool {
    let is_newer = |other: &Record<'_>| other.version > record.version;
    let above = (0..record.key.len())
        .filter(|at| *at == 0 || record.key[*at] == 0)
        .filter_map(|at| records.get(&record.key[..at]))
        .any(is_newer);
    let first = [&record.key[..], &[0][..]].concat();
    let below = records.range(first..).take_while(|(key, _)| covers(&record.key, key));
    above || below.map(|(_, other)| other).any(is_newer)
}

/// The keys in which two sets of leaves differ, as far as they are known.
pub(super) fn difference(one: &Leaves, other: &Leaves) -> Vec<Key> {
    let keys: BTreeSet<&Key> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(node: usize, hlc: u64, changes: &[(&str, Option<&str>)]) -> Deed {
        let changes = changes.iter().map(|(path, leaf)| Change {
            key: path.replace('/', "\0").into_bytes(),
            leaf: leaf.map(str::to_owned),
        });
        Deed {
            key: String::new(),
            node,
            log: String::new(),
            rev: hlc,
            at: hlc,
            version: Version { hlc, origin: node as u64 },
            changes: changes.collect(),
            ends: false,
            maybe: false,
            unversioned: false,
        }
    }

    fn leaves(deeds: Vec<Deed>, prefix: &str) -> String {
        let place = |node| Place { node, prefix: prefix.replace('/', "\0").into_bytes() };
        let group = Group {
            name: String::new(),
            members: Vec::new(),
            authors: vec![place(1), place(2)],
            except: vec![b"own".to_vec()],
        };
        let expected = Model { deeds }.expected(&group);
        let one = |(key, leaf): (&Key, &String)| format!("{}={leaf}", readable(key));
        expected.leaves.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newer_record_hides_what_is_below_and_what_is_above() {
        let all = vec![
            deed(1, 5, &[("c/x", Some("5"))]),
            deed(2, 7, &[("c", Some("7"))]),
            deed(1, 9, &[("c/y", Some("9"))]),
        ];
        assert_eq!(leaves(all.clone(), "c"), "y=9");
        assert_eq!(leaves(all[..2].to_vec(), "c"), "=7");
        assert_eq!(leaves(all[..1].to_vec(), "c"), "x=5");
    }

    #[test]
    fn a_removal_above_the_prefix_empties_it_and_no_more() {
        let all = vec![
            deed(1, 5, &[("a/c/x", Some("5"))]),
            deed(2, 7, &[("a", None), ("a/c/y", Some("7"))]),
        ];
        assert_eq!(leaves(all, "a/c"), "y=7");
    }

    #[test]
    fn of_two_nodes_at_one_time_the_higher_wins_and_carved_parts_are_not_seen() {
        let all = vec![
            deed(1, 5, &[("c/x", Some("1")), ("c/own/x", Some("1"))]),
            deed(2, 5, &[("c/x", Some("2"))]),
        ];
        assert_eq!(leaves(all, "c"), "x=2");
    }
}
