//! Indexes of a database: declared in its configuration, or created while it is open.

use std::time::Duration;

use trellis_engine_traits::Result;
use trellis_query::{IndexDefinition, create_index, drop_index};
use trellis_tree::IndexStatus;

use crate::handle::Trellis;

impl Trellis {
    /// Defines an index, which is built in the background while the database goes on being used;
    /// queries use it when it is ready. One that is there already stays as it is.
    ///
    /// # Errors
    /// `TooLarge` beyond 64 indexes, `Denied` for a system path; as for [`Trellis::set`].
    ///
    /// # Durability
    /// The definition as any other write; building goes on after a restart.
    ///
    /// # Cost
    /// One commit, then one read of every child in the background. From then on a write into the
    /// collection costs a read and a write more for each index.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trellis::{IndexDefinition, Trellis};
    ///
    /// let db = Trellis::memory()?;
    /// db.set("users/u1", serde_json::json!({"age": 33}))?;
    /// let json = serde_json::json!({"path": "users", "fields": [["age", "desc"]]});
    /// let index = db.create_index(&IndexDefinition::from_json(&json)?)?;
    /// assert!(db.wait_for_index(&index.id, Duration::from_secs(60))?);
    /// assert_eq!(db.indexes()[0].items_built, 1);
    /// assert!(db.drop_index(&index.id)?);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn create_index(&self, definition: &IndexDefinition) -> Result<IndexStatus> {
        create_index(self.tree(), definition)
    }

    /// Every index, and how far it is built.
    #[must_use]
    pub fn indexes(&self) -> Vec<IndexStatus> {
        self.tree().indexes()
    }

    /// Waits until an index is ready, at most for `wait`; `false` when it is still being built.
    ///
    /// # Errors
    /// `NotFound` when there is none with this id, `Corrupt` when damaged data keeps it from being
    /// built, `Closed`.
    pub fn wait_for_index(&self, id: &str, wait: Duration) -> Result<bool> {
        self.tree().wait_for_index(id, wait)
    }

    /// Drops an index; `false` when there is none with this id. One that the configuration names
    /// is there again after the next open.
    ///
    /// # Errors
    /// As for [`Trellis::set`].
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    pub fn drop_index(&self, id: &str) -> Result<bool> {
        drop_index(self.tree(), id)
    }
}
