//! One operation of a commit being resolved: values become leaves, transforms become values.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::answer::{CommitError, OperationResult};
use crate::commit::{Expiry, Operation};
use crate::core::Core;
use crate::draft::Draft;
use crate::input::{Input, Node, flatten};
use crate::leaf::{self, Leaf};
use crate::path::Path;
use crate::reader::raw;
use crate::refusal::over;
use crate::resolver::Resolver;
use crate::transform::{Ambient, Transform};

/// One operation of a commit being resolved.
pub(crate) struct Step<'a, 'b> {
    pub(crate) core: &'a Core,
    pub(crate) draft: &'a mut Draft<'b>,
    pub(crate) resolver: &'a mut Resolver,
    pub(crate) now_ms: u64,
}

impl Step<'_, '_> {
    pub(crate) fn operation(
        &mut self,
        operation: &Operation,
        system: bool,
    ) -> Result<OperationResult, CommitError> {
        match operation {
            Operation::Set { path, value, expiry } => {
                let ends = self.ends(path, *expiry)?;
                self.write(path, value, system, ends, false)
            }
            Operation::Delete { path } => self.write(path, &Input::null(), system, None, false),
            Operation::Push { path, value, expiry } => {
                let id = self.push_id()?;
                let child = path.child(&id).map_err(|error| CommitError::at(path, error))?;
                let ends = self.ends(path, *expiry)?;
                let result = self.write(&child, value, system, ends, false)?;
                Ok(OperationResult { pushed: Some(id), ..result })
            }
            Operation::Update { updates, expiry } => {
                refuse_overlap(updates)?;
                let mut all = OperationResult::default();
                // What empties a path comes last: below a leaf there is nothing to empty, unless
                // something else of the update makes an object of that leaf.
                let (empty, full): (Vec<_>, Vec<_>) =
                    updates.iter().partition(|(_, value)| value.is_nothing());
                for (path, value) in full.into_iter().chain(empty) {
                    let ends = self.ends(path, *expiry)?;
                    let one = self.write(path, value, system, ends, true)?;
                    all.resolved.extend(one.resolved);
                }
                Ok(all)
            }
        }
    }

    fn push_id(&mut self) -> Result<String> {
        self.resolver.push_ids.next(self.now_ms, self.core.runtime.random().as_ref())
    }

    fn ends(&self, path: &Path, expiry: Option<Expiry>) -> Result<Option<u64>, CommitError> {
        let invalid = |message: &'static str| {
            Err(CommitError::at(path, Error::new(ErrorKind::InvalidInput, message)))
        };
        match expiry {
            None => Ok(None),
            Some(Expiry::AtMs(at)) => Ok(Some(at)),
            Some(Expiry::TtlSeconds(seconds)) if seconds > 0.0 && seconds <= 3.2e9 => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range was checked"
                )]
                let ms = (seconds * 1000.0).ceil() as u64;
                Ok(Some(self.now_ms.saturating_add(ms)))
            }
            Some(Expiry::TtlSeconds(_)) => {
                invalid("ttl is a number of seconds above 0, at most 3.2e9")
            }
        }
    }

    fn write(
        &mut self,
        path: &Path,
        value: &Input,
        system: bool,
        ends: Option<u64>,
        keep_expiry: bool,
    ) -> Result<OperationResult, CommitError> {
        self.try_write(path, value, system, ends, keep_expiry)
            .map_err(|error| CommitError::at(path, error))
    }

    fn try_write(
        &mut self,
        path: &Path,
        value: &Input,
        system: bool,
        ends: Option<u64>,
        keep_expiry: bool,
    ) -> Result<OperationResult> {
        refuse_target(path, system)?;
        let mut result = OperationResult::default();
        if matches!(value.0, Node::Transform(Transform::SetIfAbsent(_)))
            && self.draft.has_below(path.key())?
        {
            // An object is there, which is not absence.
            return Ok(result);
        }
        let leaves = self.leaves(path, value, &mut result)?;
        let kept = if keep_expiry { self.draft.expiry(path.key())? } else { None };
        if leaves.is_empty() {
            self.draft.remove(path.key())?;
        } else {
            self.draft.replace(path.key(), leaves)?;
            if let Some(ends) = ends.or(kept) {
                self.draft.expire(path.key(), Some(ends));
            }
        }
        let limits = &self.core.options.limits;
        if self.draft.bytes() > limits.commit_bytes_max {
            return Err(over(
                "the commit is too large; split it",
                "commit_bytes_max",
                limits.commit_bytes_max,
            ));
        }
        if self.draft.leaves() > limits.commit_operations_max {
            return Err(over(
                "the commit has too many leaves; split it",
                "commit_operations_max",
                limits.commit_operations_max,
            ));
        }
        Ok(result)
    }

    /// The stored leaves of a value, its transforms resolved against what is there.
    fn leaves(
        &mut self,
        path: &Path,
        value: &Input,
        result: &mut OperationResult,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let leaf_bytes_max = self.core.options.limits.leaf_bytes_max;
        let mut leaves = Vec::new();
        flatten(&value.0, path.key().to_vec(), &mut |key, node| {
            let stored = match node {
                Node::Leaf(leaf) => leaf.encode(),
                Node::Transform(transform) => {
                    let present = self.draft.leaf(&key)?;
                    let inner = key.len() > path.key().len();
                    if inner
                        && matches!(transform, Transform::SetIfAbsent(_))
                        && self.draft.has_below(&key)?
                    {
                        return Err(Error::new(
                            ErrorKind::InvalidInput,
                            "setIfAbsent would have to keep an object inside a value that is \
                             replaced; set its path by itself",
                        ));
                    }
                    let present = present.map(|stored| Leaf::decode(&stored)).transpose()?;
                    let now_ms = self.now_ms;
                    let mut ambient = Ambient { now_ms, push_id: &mut || self.push_id() };
                    let stored = transform.resolve(present.as_ref(), &mut ambient)?.encode();
                    let mut json = Vec::new();
                    leaf::write_json(&stored, &mut json)?;
                    result.resolved.push((Path::from_key(&key)?, raw(json)?));
                    stored
                }
                Node::Null | Node::Object(_) => return Ok(()),
            };
            if stored.len() - 1 > leaf_bytes_max {
                return Err(over("a value is too large", "leaf_bytes_max", leaf_bytes_max));
            }
            leaves.push((key.into(), stored));
            Ok(())
        })?;
        Ok(leaves)
    }
}

/// Refuses paths of which one lies at or below another.
pub(crate) fn refuse_overlap(updates: &[(Path, Input)]) -> Result<(), CommitError> {
    let mut paths: Vec<&Path> = updates.iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    for pair in paths.windows(2) {
        if let [above, below] = pair
            && above.covers(below)
        {
            let message = "a path of the update lies at or below another; the order would decide";
            return Err(CommitError::at(below, Error::new(ErrorKind::InvalidInput, message)));
        }
    }
    Ok(())
}

/// Refuses paths that cannot be written.
pub(crate) fn refuse_target(path: &Path, system: bool) -> Result<()> {
    if path.is_root() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the root cannot be replaced or removed; write its children",
        ));
    }
    if path.is_system() && !system {
        return Err(Error::new(ErrorKind::Denied, "paths that begin with _ are the system's"));
    }
    Ok(())
}
