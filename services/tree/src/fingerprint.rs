//! Tells two requests with the same idempotency key apart.

use crate::commit::{Check, Commit, Expiry, Operation};
use crate::input::{Input, Node};
use crate::leaf::Leaf;
use crate::path::Path;
use crate::record::{Chain, short_hash};

/// A hash of everything that the request asks for.
pub(crate) fn of(commit: &Commit) -> Chain {
    let mut hasher = blake3::Hasher::new();
    for condition in &commit.conditions {
        path(&mut hasher, &condition.path);
        match &condition.check {
            Check::Exists => part(&mut hasher, 1, &[]),
            Check::Absent => part(&mut hasher, 2, &[]),
            Check::Hash(hash) => part(&mut hasher, 3, hash.as_bytes()),
            Check::Value(value) => input(&mut hasher, value),
            Check::Rev(rev) => part(&mut hasher, 4, &rev.to_le_bytes()),
        }
    }
    for operation in &commit.operations {
        match operation {
            Operation::Set { path: at, value, expiry: end } => {
                part(&mut hasher, 5, &[]);
                path(&mut hasher, at);
                input(&mut hasher, value);
                expiry(&mut hasher, *end);
            }
            Operation::Update { updates, expiry: end } => {
                part(&mut hasher, 6, &updates.len().to_le_bytes());
                for (at, value) in updates {
                    path(&mut hasher, at);
                    input(&mut hasher, value);
                }
                expiry(&mut hasher, *end);
            }
            Operation::Delete { path: at } => {
                part(&mut hasher, 7, &[]);
                path(&mut hasher, at);
            }
            Operation::Push { path: at, value, expiry: end } => {
                part(&mut hasher, 8, &[]);
                path(&mut hasher, at);
                input(&mut hasher, value);
                expiry(&mut hasher, *end);
            }
        }
    }
    short_hash(hasher.finalize())
}

/// A tagged part with its length, so that no two sequences of parts look alike.
fn part(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(bytes);
}

fn path(hasher: &mut blake3::Hasher, path: &Path) {
    part(hasher, 9, path.key());
}

fn expiry(hasher: &mut blake3::Hasher, expiry: Option<Expiry>) {
    match expiry {
        None => part(hasher, 10, &[]),
        Some(Expiry::TtlSeconds(seconds)) => part(hasher, 11, &seconds.to_bits().to_le_bytes()),
        Some(Expiry::AtMs(at)) => part(hasher, 12, &at.to_le_bytes()),
    }
}

fn input(hasher: &mut blake3::Hasher, value: &Input) {
    node(hasher, &value.0);
}

fn node(hasher: &mut blake3::Hasher, value: &Node) {
    match value {
        Node::Null => part(hasher, 13, &[]),
        Node::Leaf(leaf) => part(hasher, 14, &Leaf::encode(leaf)),
        Node::Object(members) => {
            part(hasher, 15, &members.len().to_le_bytes());
            for (name, member) in members {
                part(hasher, 16, name.as_bytes());
                node(hasher, member);
            }
        }
        // A transform's own text is as good as any encoding of it: it lives for a day.
        Node::Transform(transform) => part(hasher, 17, format!("{transform:?}").as_bytes()),
    }
}
