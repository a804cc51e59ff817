//! What a follower may ask a source for.

use bytes::Bytes;
use trellis_tree::Scope;

use crate::message::{Open, Refusal};
use crate::plan::ZONES_MAX;
use crate::turn::denied;

/// Bytes of a feed's name at most.
const NAME_BYTES_MAX: usize = 64;

/// Refuses an open that is no open, or asks for what the peer was not granted.
pub(crate) fn check_open(open: &Open, granted: &Scope) -> Result<(), Refusal> {
    if !is_name(&open.feed) {
        return Err(Refusal::protocol("the name of a feed is 1 to 64 letters, digits, - and _"));
    }
    if open.prefixes.is_empty() || open.prefixes.len().max(open.except.len()) > ZONES_MAX {
        return Err(Refusal::protocol("a feed has 1 to 4,096 prefixes"));
    }
    if !open.prefixes.is_sorted_by(|one, other| one < other) {
        return Err(Refusal::protocol("the prefixes of a feed are out of order"));
    }
    if !open.prefixes.iter().all(|prefix| granted.covers(prefix)) {
        return Err(denied("this peer may not pull a prefix that it asks for"));
    }
    Ok(())
}

/// What is sent: what was asked for, without what the follower or this node leaves out.
pub(crate) fn covered_scope(open: &Open, granted: &Scope) -> Scope {
    let mut except = open.except.clone();
    except.extend(granted.except.iter().cloned());
    except.sort_unstable();
    except.dedup();
    let within = open.prefixes.clone();
    // A prefix that was granted below an exception stays: the longest one decides.
    except.retain(|except| !within.contains(except));
    Scope { within, except }
}

/// One prefix of a scope, by its place: without the scope's other prefixes below it.
pub(crate) fn part_scope(scope: &Scope, part: u32) -> Option<Scope> {
    let prefix = scope.within.get(usize::try_from(part).ok()?)?;
    let below = |key: &&Bytes| covers(prefix, key) && *key != prefix;
    let mut except: Vec<Bytes> = scope.except.iter().filter(below).cloned().collect();
    except.extend(scope.within.iter().filter(below).cloned());
    Some(Scope { within: vec![prefix.clone()], except })
}

/// Whether a text names a feed.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a key is an ancestor's or the same.
pub(crate) fn covers(ancestor: &[u8], key: &[u8]) -> bool {
    ancestor.is_empty()
        || key.strip_prefix(ancestor).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}
