//! [`Queries`]: evaluates queries on the views of one tree.

use std::sync::Arc;

use serde_json::{Value, json};
use trellis_engine_traits::Result;
use trellis_tree::{Tree, View};

use crate::answer::{Answer, Page, read_items};
use crate::cursor::Cursors;
use crate::index::FieldIndexes;
use crate::plan::Source;
use crate::position::Position;
use crate::run::{Run, Sink};
use crate::seam::Indexes;
use crate::spec::QuerySpec;
use crate::walk::WalkEnd;

/// Children that a query may look at where no index serves it.
pub const LOOKED_MAX: usize = 10_000;

/// Evaluates queries on the views of one tree, with the indexes that it has. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use trellis_query::{Answer, Queries, QuerySpec};
/// # use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
/// # let (kv, log) = (trellis_kv_memory::MemoryKv::new(), trellis_log_memory::MemoryLog::new());
/// # let runtime = trellis_runtime::Runtime::system();
/// # let tree = Tree::open(Arc::new(kv), Arc::new(log), runtime, TreeOptions::default())?;
///
/// let users = Input::parse(br#"{"u1":{"age":30},"u2":{"age":17}}"#)?;
/// tree.commit(Commit::set(Path::parse("users")?, users))?;
/// let queries = Queries::new(&tree);
/// let adults = QuerySpec::parse(br#"{"path":"users","where":[["age",">=",18]]}"#)?;
/// let Answer::Page(page) = queries.run(&tree.view()?, &adults, 1 << 20)? else { panic!() };
/// assert_eq!(page.items[0].key(), "u1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Queries {
    cursors: Cursors,
    pub(crate) indexes: Arc<dyn Indexes>,
}

impl Queries {
    /// Queries with the indexes that the tree keeps.
    #[must_use]
    pub fn new(tree: &Tree) -> Self {
        Self::with_indexes(tree, Arc::new(FieldIndexes))
    }

    /// Queries with these indexes, or without any: [`NoIndexes`](crate::NoIndexes).
    #[must_use]
    pub fn with_indexes(tree: &Tree, indexes: Arc<dyn Indexes>) -> Self {
        Self { cursors: Cursors::new(&tree.identity().log_id), indexes }
    }

    /// Evaluates a query at a view.
    ///
    /// A page ends early where its items would pass `bytes_max`; its cursor goes on there. An
    /// index is read only at a view that hides nothing: `Tree::settle` first.
    ///
    /// # Errors
    /// `TooLarge` with `reason=index_required` and the definition to add, when more than 10,000
    /// children would have to be looked at; `TooLarge` also for an item alone beyond `bytes_max`
    /// and for an aggregate beyond its bounds; `InvalidInput` for a cursor that is not this
    /// query's; as for every read.
    ///
    /// # Cost
    /// With an index, or in the order of the keys: about what the items of the page cost. Else one
    /// scan of up to 10,000 children. Blocks on engine I/O: async callers go through the runtime.
    pub fn run(&self, view: &View, spec: &QuerySpec, bytes_max: usize) -> Result<Answer> {
        if let Some(totals) = &spec.totals {
            let mut run = Run::new(view, spec, &*self.indexes, LOOKED_MAX);
            let mut sink = Sink::totals(totals);
            run.fill(&mut sink)?;
            run.check_end()?;
            return Ok(Answer::Totals(match sink {
                Sink::Count(count) => json!({ "count": count }),
                Sink::Groups(groups) => groups.to_json(),
                Sink::Best { .. } => Value::Null,
            }));
        }
        let after = spec.cursor.as_deref().map(|text| self.cursors.read(spec, text)).transpose()?;
        let mut positions = self.positions(view, spec, after, spec.limit + 1)?;
        let more = positions.len() > spec.limit;
        positions.truncate(spec.limit);
        let items = read_items(view, spec.select.as_deref(), &positions, bytes_max)?;
        let more = more || items.len() < positions.len();
        let last = items.len().checked_sub(1).and_then(|last| positions.get(last));
        let next_cursor = last.filter(|_| more).map(|position| self.cursors.write(spec, position));
        Ok(Answer::Page(Page { items, next_cursor }))
    }

    /// The first places after one, in the query's order.
    pub(crate) fn positions(
        &self,
        view: &View,
        spec: &QuerySpec,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<Position>> {
        let mut run = Run::new(view, spec, &*self.indexes, LOOKED_MAX);
        let mut sink = Sink::best(count, after);
        run.fill(&mut sink)?;
        run.check_end()?;
        Ok(sink.into_positions())
    }

    /// How a query is answered at a view, without its items:
    /// `{"plan","index"?,"direction","inOrder","scanned","complete","suggestion"?}`.
    ///
    /// `plan` is `collection`, `index`, or `empty` for conditions that contradict each other;
    /// `scanned` counts the children that were looked at; `complete` is false where the query is
    /// refused because of it; `suggestion` is the index that would serve it and is not there.
    ///
    /// # Errors
    /// As for [`Queries::run`], except that nothing is refused for being too much.
    pub fn explain(&self, view: &View, spec: &QuerySpec) -> Result<Value> {
        let mut run = Run::new(view, spec, &*self.indexes, LOOKED_MAX);
        let after = spec.cursor.as_deref().map(|text| self.cursors.read(spec, text)).transpose()?;
        let mut sink = match &spec.totals {
            Some(totals) => Sink::totals(totals),
            None => Sink::best(spec.limit + 1, after),
        };
        run.fill(&mut sink)?;
        let (name, index) = match &run.plan.source {
            Source::Nothing => ("empty", None),
            Source::Collection => ("collection", None),
            Source::Index(range) => ("index", Some(range.index.to_json())),
        };
        let backwards = run.plan.in_order && run.plan.reverse;
        let mut json = json!({
            "plan": name,
            "direction": if backwards { "reverse" } else { "forward" },
            "inOrder": run.plan.in_order,
            "scanned": run.looked,
            "complete": run.end != WalkEnd::TooMany,
        });
        let served = run.plan.in_order && run.end != WalkEnd::TooMany;
        let suggestion = if served { None } else { run.missing_index() };
        if let Value::Object(members) = &mut json {
            members.extend(index.map(|index| ("index".to_owned(), index)));
            let suggestion = suggestion.map(|definition| definition.to_json());
            members.extend(suggestion.map(|definition| ("suggestion".to_owned(), definition)));
        }
        Ok(json)
    }
}
