//! Queries of a database, with the indexes it has.

use std::sync::Arc;

use serde_json::Value;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_query::{Answer, FieldIndexes, Queries, QuerySpec};
use trellis_tree::View;

use crate::handle::Trellis;

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Queried {
    /// A page of items, or the figures asked for.
    pub answer: Answer,
    /// The commit that the answer is as of.
    pub rev: u64,
}

impl Trellis {
    /// Answers a query, with at most so many bytes of items; a page that ends early has a cursor.
    ///
    /// # Errors
    /// `TooLarge` with the fact `reason` = `index_required`, and the definition to add, when more
    /// than 10,000 children would have to be looked at; `TooLarge` for one item beyond `bytes_max`;
    /// `InvalidInput` for another query's cursor; as for [`Trellis::get`].
    ///
    /// # Cost
    /// With an index, or in the order of the keys, about what the items cost; else a scan.
    ///
    /// ```
    /// use trellis::{Answer, QuerySpec, Trellis};
    ///
    /// let db = Trellis::memory()?;
    /// db.set("users", serde_json::json!({"u1": {"age": 33}, "u2": {"age": 12}}))?;
    /// let adults = QuerySpec::parse(br#"{"path":"users","where":[["age",">=",18]]}"#)?;
    /// let Answer::Page(page) = db.query(&adults, 1 << 20)?.answer else { panic!("a page") };
    /// assert_eq!(page.items.iter().map(|item| item.key()).collect::<Vec<_>>(), ["u1"]);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn query(&self, query: &QuerySpec, bytes_max: usize) -> Result<Queried> {
        let (queries, view) = self.queries()?;
        Ok(Queried { answer: queries.run(&view, query, bytes_max)?, rev: view.rev() })
    }

    /// How a query would be answered, as JSON: its plan, the index, how many children it would look
    /// at, and the index to add where one is missing.
    ///
    /// # Errors
    /// As for [`Trellis::query`], but nothing is too much.
    pub fn explain(&self, query: &QuerySpec) -> Result<(Value, u64)> {
        let (queries, view) = self.queries()?;
        Ok((queries.explain(&view, query)?, view.rev()))
    }

    /// The queries at a view of now. Indexes name what is stored, what is due to vanish included:
    /// where that cannot be removed first, they are left aside.
    fn queries(&self) -> Result<(Queries, View)> {
        let tree = self.tree();
        match tree.settled_view() {
            Ok(view) => Ok((Queries::with_indexes(tree, Arc::new(FieldIndexes)), view)),
            Err(error) if error.kind() != ErrorKind::Closed => {
                Ok((Queries::new(tree), tree.view()?))
            }
            Err(error) => Err(error),
        }
    }
}
