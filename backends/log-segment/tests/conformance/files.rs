//! The operating system's files, without real syncs, and with failures on request.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_log_segment::layer::{FileLayer, LayerFile, LockGuard, OsFiles};

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Rename,
    Remove,
    SyncDir,
    SyncData,
    SetLen,
    /// Writes as many bytes, then fails.
    Write(usize),
}

/// One planned failure: of the operation on a file whose name contains this, after so many others.
#[derive(Debug)]
struct Plan {
    operation: Operation,
    name: &'static str,
    after: usize,
    kind: io::ErrorKind,
}

#[derive(Debug, Default)]
pub(crate) struct TestFiles {
    plans: Arc<Mutex<Vec<Plan>>>,
    syncs: Arc<Mutex<usize>>,
}

impl TestFiles {
    /// Makes the operation fail once, after `after` successes.
    pub(crate) fn fail(
        &self,
        operation: Operation,
        name: &'static str,
        after: usize,
        kind: io::ErrorKind,
    ) {
        self.plans.lock().push(Plan { operation, name, after, kind });
    }

    /// Flushes of segment files so far.
    pub(crate) fn syncs(&self) -> usize {
        *self.syncs.lock()
    }

    /// Whether every planned failure happened.
    pub(crate) fn is_done(&self) -> bool {
        self.plans.lock().is_empty()
    }
}

fn due(plans: &Mutex<Vec<Plan>>, path: &Path, is: impl Fn(Operation) -> bool) -> Option<Plan> {
    let mut plans = plans.lock();
    let name = path.to_string_lossy();
    let found = plans.iter().position(|plan| is(plan.operation) && name.contains(plan.name))?;
    if plans[found].after > 0 {
        plans[found].after -= 1;
        return None;
    }
    Some(plans.remove(found))
}

fn check(plans: &Mutex<Vec<Plan>>, path: &Path, operation: Operation) -> io::Result<()> {
    due(plans, path, |planned| planned == operation).map_or(Ok(()), |plan| Err(plan.kind.into()))
}

impl FileLayer for TestFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsFiles.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsFiles.list(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
        check(&self.plans, path, Operation::Open)?;
        Ok(Arc::new(TestFile {
            inner: OsFiles.open(path, create)?,
            path: path.into(),
            plans: Arc::clone(&self.plans),
            syncs: Arc::clone(&self.syncs),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check(&self.plans, from, Operation::Rename)?;
        OsFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        check(&self.plans, path, Operation::Remove)?;
        OsFiles.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        check(&self.plans, path, Operation::SyncDir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        OsFiles.lock(path)
    }
}

#[derive(Debug)]
struct TestFile {
    inner: Arc<dyn LayerFile>,
    path: Box<Path>,
    plans: Arc<Mutex<Vec<Plan>>>,
    syncs: Arc<Mutex<usize>>,
}

impl LayerFile for TestFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let planned =
            due(&self.plans, &self.path, |planned| matches!(planned, Operation::Write(_)));
        let Some(plan) = planned else { return self.inner.write_at(bytes, position) };
        if let Operation::Write(part) = plan.operation {
            self.inner.write_at(&bytes[..part.min(bytes.len())], position)?;
        }
        Err(plan.kind.into())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(into, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.path.extension().is_some_and(|suffix| suffix != "durable") {
            *self.syncs.lock() += 1;
        }
        check(&self.plans, &self.path, Operation::SyncData)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        check(&self.plans, &self.path, Operation::SetLen)?;
        self.inner.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}
