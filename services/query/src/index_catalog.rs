//! Creating and dropping indexes: commits to the system path of definitions.
//!
//! A definition is data of the tree: journaled, copied by backups and migrations, and in effect
//! from exactly its commit on. So is its removal.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{
    Check, Commit, Condition, INDEXES_PATH, IndexStatus, Input, Operation, Path, Tree,
};

use crate::definition::IndexDefinition;
use crate::errors::too_large;
use crate::index::index_name;

/// Indexes of one tree.
pub const INDEXES_MAX: usize = 64;
/// Tries to define an index beside others who do so.
const ATTEMPTS: usize = 25;

/// Defines an index, which the tree then builds while it goes on being used; one that is defined
/// already stays as it is.
///
/// # Errors
/// `TooLarge` beyond 64 indexes, `Denied` for a system path, `Unsupported` for a tree that keeps no
/// indexes; as for every commit.
///
/// # Durability
/// The definition is durable when this returns, as for every commit. Building survives restarts.
///
/// # Cost
/// One commit; then every item is read once, in the background.
pub fn create_index(tree: &Tree, definition: &IndexDefinition) -> Result<IndexStatus> {
    if tree.options().derivation.is_none() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this database keeps no indexes at the moment: see its log, run `trellis check`, and \
             open it anew",
        )
        .operation("create index"));
    }
    // What a pattern must not be, the tree says.
    trellis_tree::Pattern::parse(&definition.path.to_string())?;
    let name = index_name(definition);
    for _ in 0..ATTEMPTS {
        let rev = tree.position().rev;
        let indexes = tree.indexes();
        if let Some(known) = indexes.iter().find(|index| index.id == name) {
            return Ok(known.clone());
        }
        if indexes.len() >= INDEXES_MAX {
            let message = "there are too many indexes; drop one that no query needs";
            return Err(too_large(message, "indexes_max", INDEXES_MAX));
        }
        let all = Path::parse(INDEXES_PATH)?;
        let path = all.child(&name)?;
        let value = Input::parse(definition.to_json().to_string().as_bytes())?;
        let mut commit = Commit::new(vec![Operation::Set { path, value, expiry: None }]);
        commit.conditions.push(Condition { path: all, check: Check::Rev(rev) });
        commit.system = true;
        match tree.commit(commit) {
            Ok(_) => {}
            // Another index was defined or dropped just now.
            Err(refused) if refused.error.kind() == ErrorKind::Conflict => {}
            Err(refused) => return Err(refused.error),
        }
    }
    Err(Error::new(ErrorKind::Busy, "other indexes are being defined; try again")
        .operation("create index"))
}

/// Drops the index of this name; `false` when there is none.
///
/// # Errors
/// As for every commit.
///
/// # Durability
/// As for every commit.
///
/// # Cost
/// One commit; the entries are removed as one range.
pub fn drop_index(tree: &Tree, name: &str) -> Result<bool> {
    let path = Path::parse(INDEXES_PATH)?.child(name)?;
    if !tree.view()?.exists(&path)? {
        return Ok(false);
    }
    let commit = Commit { system: true, ..Commit::delete(path) };
    tree.commit(commit).map(|_| true).map_err(|refused| refused.error)
}
