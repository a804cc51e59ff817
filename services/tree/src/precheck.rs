//! What can be said of an operation before it is committed: for services that keep it for later.

use trellis_engine_traits::Result;

use crate::answer::CommitError;
use crate::commit::{Commit, Operation};
use crate::input::{Input, Node, flatten};
use crate::path::Path;
use crate::refusal::over;
use crate::step::{refuse_overlap, refuse_target};
use crate::tree::Tree;

impl Tree {
    /// Refuses an operation that no state of the tree would accept: of the root or a system path,
    /// beyond a limit, an update of overlapping paths, or what another node writes
    /// ([`Gate::check_here`](crate::Gate::check_here)). What depends on what is there, such as a
    /// transform of another type, shows only when it is committed.
    ///
    /// # Errors
    /// `InvalidInput`, `Denied`, `TooLarge`, each with the path.
    ///
    /// ```
    /// use trellis_tree::{Operation, Path, Tree};
    ///
    /// fn may_be_kept(tree: &Tree) -> bool {
    ///     tree.check_operation(&Operation::Delete { path: Path::root() }).is_ok()
    /// }
    /// ```
    pub fn check_operation(&self, operation: &Operation) -> Result<(), CommitError> {
        let mut sum = Sum { tree: self, bytes: 0, leaves: 0 };
        match operation {
            Operation::Set { path, value, .. } | Operation::Push { path, value, .. } => {
                sum.add(path, value)
            }
            Operation::Delete { path } => sum.add(path, &Input::null()),
            Operation::Update { updates, .. } => {
                refuse_overlap(updates)?;
                updates.iter().try_for_each(|(path, value)| sum.add(path, value))
            }
        }?;
        match self.core().gate.get() {
            Some(gate) => gate.check_here(&Commit::new(vec![operation.clone()])),
            None => Ok(()),
        }
    }
}

/// What an operation comes to.
struct Sum<'a> {
    tree: &'a Tree,
    bytes: usize,
    leaves: usize,
}

impl Sum<'_> {
    fn add(&mut self, path: &Path, value: &Input) -> Result<(), CommitError> {
        self.try_add(path, value).map_err(|error| CommitError::at(path, error))
    }

    fn try_add(&mut self, path: &Path, value: &Input) -> Result<()> {
        refuse_target(path, false)?;
        let limits = &self.tree.options().limits;
        self.leaves += 1;
        self.bytes += path.key().len();
        flatten(&value.0, path.key().to_vec(), &mut |key, node| {
            self.leaves += 1;
            self.bytes += key.len();
            if let Node::Leaf(leaf) = node {
                let stored = leaf.encode();
                self.bytes += stored.len();
                if stored.len() - 1 > limits.leaf_bytes_max {
                    let message = "a value is too large";
                    return Err(over(message, "leaf_bytes_max", limits.leaf_bytes_max));
                }
            }
            Ok(())
        })?;
        if self.bytes > limits.commit_bytes_max {
            let message = "the commit would be too large; split it";
            return Err(over(message, "commit_bytes_max", limits.commit_bytes_max));
        }
        if self.leaves > limits.commit_operations_max {
            let message = "the commit would have too many leaves; split it";
            return Err(over(message, "commit_operations_max", limits.commit_operations_max));
        }
        Ok(())
    }
}
