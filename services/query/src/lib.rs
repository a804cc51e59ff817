//! Queries over the tree: filters, order, pages, aggregates and live windows.
//!
//! The children of a collection are the items. A query is read from JSON and checked
//! ([`QuerySpec`]), planned (the collection's own order, or an index), and evaluated at one view in
//! one streaming scan; only the best `limit` items are ever held.
//!
//! Invariants:
//! 1. The answer is that of a plain evaluation over all children, whichever way it was found.
//! 2. Memory is bounded by the limit and the size of the answer, never by the collection.
//! 3. Without an index at most 10,000 children are looked at; then the query is refused with the
//!    definition of the index that would serve it.
//!
//! Deliberately absent: where indexes are stored and built, subscriptions, and the wire.
//!
//! # Contract
//! - `query.answer.exact`: an answer is that of a plain evaluation over all children at the view's
//!   rev, whichever way it was found.
//! - `query.bound.named`: more than 10,000 children are looked at by no query; it is refused with
//!   the index that serves it once it is added.
//! - `query.cursor.stable`: page after page, beside writers and across reopens, no item comes twice
//!   and none is left out that was there all the time where it was.
//! - `query.cursor.own`: only the query that a cursor was handed out for takes it.
//! - `query.live.exact`: after every commit, a live window is the query's first page at its rev.

mod answer;
mod bounds;
mod cursor;
mod definition;
mod encoding;
mod errors;
mod field;
mod filter;
mod groups;
mod index;
mod index_catalog;
mod live;
mod live_order;
mod needed;
mod pattern;
mod place;
mod plan;
mod position;
mod queries;
mod run;
mod seam;
mod spec;
mod spec_parse;
mod walk;

pub use answer::{Answer, Item, Page};
pub use definition::{INDEX_FIELDS_MAX, IndexDefinition};
pub use encoding::{FieldValue, ORDER_BYTES_MAX, encode_key, encode_value};
pub use field::Field;
pub use filter::{Comparison, Filter, Test};
pub use groups::{GROUPS_BYTES_MAX, GROUPS_MAX};
pub use index::{FIELD_INDEXES, FieldIndexes, index_name};
pub use index_catalog::{INDEXES_MAX, create_index, drop_index};
pub use live::{LiveQuery, WindowEvent, WindowEventKind};
pub use pattern::Pattern;
pub use queries::{LOOKED_MAX, Queries};
pub use seam::{Indexes, NoIndexes, entry, entry_key};
pub use spec::{
    AGGREGATE_FIELDS_MAX, Aggregate, CONDITIONS_MAX, GROUP_DEPTH_MAX, IN_VALUES_MAX, LIMIT_DEFAULT,
    LIMIT_MAX, ORDER_MAX, Order, QuerySpec, SELECT_MAX, Totals,
};
