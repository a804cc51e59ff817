//! The reading statements, on any connection.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows};
use trellis_engine_traits::{Direction, Guard, Result, Scan, ScanEnd, SpaceId, Visitor};

use crate::error;

/// Damages that are named, at most.
const DAMAGE_MAX: usize = 100;

const GET: &str = "SELECT value FROM entries WHERE space = ?1 AND key = ?2";

/// Which statement serves a scan: with or without an end, ascending or descending.
fn scan_sql(scan: &Scan) -> &'static str {
    match (&scan.range.end, scan.direction) {
        (None, Direction::Forward) => {
            "SELECT key, value FROM entries WHERE space = ?1 AND key >= ?2 ORDER BY key"
        }
        (None, Direction::Reverse) => {
            "SELECT key, value FROM entries WHERE space = ?1 AND key >= ?2 ORDER BY key DESC"
        }
        (Some(_), Direction::Forward) => {
            "SELECT key, value FROM entries WHERE space = ?1 AND key >= ?2 AND key < ?3 \
             ORDER BY key"
        }
        (Some(_), Direction::Reverse) => {
            "SELECT key, value FROM entries WHERE space = ?1 AND key >= ?2 AND key < ?3 \
             ORDER BY key DESC"
        }
    }
}

fn blob<'row>(value: ValueRef<'row>) -> Result<&'row [u8]> {
    match value {
        ValueRef::Blob(bytes) => Ok(bytes),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => {
            Err(error::corrupt("a row has another shape than what was written"))
        }
    }
}

/// Hands the value of a key to `take`.
fn with_value<T>(
    connection: &Connection,
    space: SpaceId,
    key: &[u8],
    take: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(GET).map_err(error::sqlite)?;
    let mut rows = statement.query((space.0, key)).map_err(error::sqlite)?;
    let Some(row) = rows.next().map_err(error::sqlite)? else { return Ok(None) };
    Ok(Some(take(blob(row.get_ref(0).map_err(error::sqlite)?)?)))
}

pub(crate) fn get(connection: &Connection, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
    with_value(connection, space, key, Bytes::copy_from_slice)
}

/// Answers `Conflict` when one of the guards does not hold.
pub(crate) fn test(connection: &Connection, guards: &[Guard]) -> Result<()> {
    for (index, guard) in guards.iter().enumerate() {
        let (at, wanted) = match guard {
            Guard::Absent(at) | Guard::Present(at) => (at, None),
            Guard::Equals(at, value) => (at, Some(value)),
        };
        let found = with_value(connection, at.space, &at.key, |stored| {
            wanted.is_none_or(|wanted| *stored == **wanted)
        })?;
        let holds = match guard {
            Guard::Absent(_) => found.is_none(),
            Guard::Present(_) | Guard::Equals(..) => found == Some(true),
        };
        if !holds {
            return Err(error::guard_failed(index));
        }
    }
    Ok(())
}

/// What SQLite finds wrong with the whole file, a sentence each.
pub(crate) fn integrity(connection: &Connection) -> Result<Vec<String>> {
    let sql = format!("PRAGMA integrity_check({DAMAGE_MAX})");
    let mut statement = connection.prepare(&sql).map_err(error::sqlite)?;
    let rows = statement.query_map((), |row| row.get::<_, String>(0)).map_err(error::sqlite)?;
    let lines = rows.collect::<rusqlite::Result<Vec<_>>>().map_err(error::sqlite)?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Visits the pairs of a scan; `go_on` is asked before each.
pub(crate) fn scan(
    connection: &Connection,
    scan: &Scan,
    go_on: impl Fn() -> Result<()>,
    visit: &mut Visitor<'_>,
) -> Result<ScanEnd> {
    let mut statement = connection.prepare_cached(scan_sql(scan)).map_err(error::sqlite)?;
    let (space, start) = (scan.space.0, &scan.range.start[..]);
    let rows = match &scan.range.end {
        None => statement.query((space, start)),
        Some(end) => statement.query((space, start, &end[..])),
    };
    visit_all(rows.map_err(error::sqlite)?, go_on, visit)
}

fn visit_all(
    mut rows: Rows<'_>,
    go_on: impl Fn() -> Result<()>,
    visit: &mut Visitor<'_>,
) -> Result<ScanEnd> {
    while let Some(row) = rows.next().map_err(error::sqlite)? {
        go_on()?;
        let key = blob(row.get_ref(0).map_err(error::sqlite)?)?;
        let value = blob(row.get_ref(1).map_err(error::sqlite)?)?;
        if visit(key, value).is_break() {
            return Ok(ScanEnd::Stopped);
        }
    }
    Ok(ScanEnd::Exhausted)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use trellis_engine_traits::KeyRange;

    use super::*;
    use crate::backend::SqliteKv;
    use crate::options::SqliteOptions;

    #[test]
    fn no_statement_is_compiled_twice_whatever_is_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.sqlite");
        let options = SqliteOptions::default();
        let _store = SqliteKv::open(&path, options.clone()).expect("opens");
        let connection = crate::options::open_reader(&path, &options).expect("a reader");
        let range = KeyRange::new("a", Some("b".into()));
        for number in 0..8 {
            let space = SpaceId(number % 4);
            let forward = Scan::forward(space, range.clone());
            get(&connection, space, b"key").expect("reads");
            let visit: &mut Visitor<'_> = &mut |_, _| std::ops::ControlFlow::Continue(());
            scan(&connection, &forward, || Ok(()), visit).expect("scans");
        }
        let forward = Scan::forward(SpaceId(1), range);
        for sql in [GET, scan_sql(&forward)] {
            let statement = connection.prepare_cached(sql).expect("it is in the cache");
            assert!(statement.get_status(StatementStatus::Run) >= 8, "{sql}: not the cached one");
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}
