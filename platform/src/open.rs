//! [`Open`]: what an open database consists of, and in which order it comes and goes.
//!
//! Invariants: what fails half way closes what was opened; links end before the tree, the tree
//! before its engines, and the directory is given free last.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_presence::Presence;
use trellis_query::{IndexDefinition, create_index};
use trellis_runtime::Runtime;
use trellis_subscribe::Live;
use trellis_topology::Topology;
use trellis_tree::{Tree, TreeOptions, WritePause};

use crate::config::{Config, IndexConfig};
use crate::data_directory::DataDirectory;
use crate::description::Description;
use crate::registry::{Choice, Engines};
use crate::replication::{Linking, Replication};

/// Everything behind the handles of a database.
pub(crate) struct Open {
    pub(crate) tree: Tree,
    /// Started when it is first asked for; ends before the tree does.
    pub(crate) live: Mutex<Option<Live>>,
    /// Started when it is first asked for.
    pub(crate) presence: Mutex<Option<Presence>>,
    /// Where the configuration makes it a node.
    pub(crate) replication: Option<Replication>,
    /// The same, for a look at it while it has no links.
    pub(crate) topology: Option<Arc<Topology>>,
    pub(crate) runtime: Arc<Runtime>,
    engines: Engines,
    pub(crate) config: Config,
    pub(crate) description: Description,
    /// Given free last; `None` when closed, or when everything is in memory.
    directory: Mutex<Option<DataDirectory>>,
    /// Held between [`Trellis::pause_writes`](crate::Trellis::pause_writes) and
    /// [`Trellis::resume_writes`](crate::Trellis::resume_writes).
    pub(crate) pause: Mutex<Option<WritePause>>,
}

impl Open {
    pub(crate) fn all(
        config: Config,
        runtime: Arc<Runtime>,
        paused: bool,
        linking: &Linking,
    ) -> Result<Self> {
        let (kv_url, log_url) = (config.kv_url(), config.log_url());
        let choice = Choice::new(kv_url, log_url, &config.vfs)?;
        let topology = config.replication.as_ref().map(crate::replication_plan::topology);
        let topology = topology.transpose()?;
        let options = crate::options::tree_options(&config, topology.as_deref())?;
        let directory = match choice.is_in_memory() {
            true => None,
            false => Some(DataDirectory::hold(&config.data)?),
        };
        if let Some(directory) = &directory {
            directory.check(kv_url, log_url)?;
        }
        let engines = choice.open(&config.data, config.cache_bytes())?;
        let marked = directory.as_ref().map_or(Ok(()), |held| held.mark(kv_url, log_url));
        let opened = marked.and_then(|()| open_tree(&engines, &runtime, options, paused)).and_then(
            |(tree, pause)| {
                let started = start(&config, &tree, &runtime, topology.as_ref(), (&pause, linking));
                match started {
                    Ok(replication) => Ok((tree, pause, replication)),
                    Err(error) => {
                        warn_of(tree.close());
                        Err(error)
                    }
                }
            },
        );
        let (tree, pause, replication) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                warn_of(engines.close());
                return Err(error);
            }
        };
        let description = Description::new(&config, &choice, &engines, topology.as_deref());
        Ok(Self {
            tree,
            live: Mutex::new(None),
            presence: Mutex::new(None),
            replication,
            topology,
            runtime,
            engines,
            config,
            description,
            directory: Mutex::new(directory),
            pause: Mutex::new(pause),
        })
    }

    pub(crate) fn close(&self) -> Result<()> {
        let mut directory = self.directory.lock();
        if let Some(live) = self.live.lock().take() {
            live.close();
        }
        if let Some(presence) = self.presence.lock().take() {
            presence.close();
        }
        if let Some(replication) = &self.replication {
            replication.close();
        }
        let tree = self.tree.close();
        let engines = self.engines.close();
        // Last, so that nobody opens the files before they are free.
        directory.take();
        tree.and(engines)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the database failed");
        }
    }
}

fn open_tree(
    engines: &Engines,
    runtime: &Arc<Runtime>,
    options: TreeOptions,
    paused: bool,
) -> Result<(Tree, Option<WritePause>)> {
    let (kv, log) = (Arc::clone(&engines.kv), Arc::clone(&engines.log));
    if paused {
        let (tree, pause) = Tree::open_paused(kv, log, Arc::clone(runtime), options)?;
        return Ok((tree, Some(pause)));
    }
    Ok((Tree::open(kv, log, Arc::clone(runtime), options)?, None))
}

/// What a database does from its opening on, unless its writes are paused.
fn start(
    config: &Config,
    tree: &Tree,
    runtime: &Arc<Runtime>,
    topology: Option<&Arc<Topology>>,
    (pause, linking): (&Option<WritePause>, &Linking),
) -> Result<Option<Replication>> {
    if pause.is_some() {
        return Ok(None);
    }
    crate::open::declare(tree, &config.indexes)?;
    match (&config.replication, topology) {
        (Some(replication), Some(topology)) => {
            Replication::start(tree, runtime, Arc::clone(topology), replication, linking)
        }
        _ => Ok(None),
    }
}

fn warn_of(closing: Result<()>) {
    if let Err(closing) = closing {
        tracing::warn!(%closing, "closing after a failed open");
    }
}

/// Creates the indexes that a configuration names and the database lacks.
///
/// # Errors
/// `InvalidInput` for a definition that makes no sense; as for a commit. A full disk is none: one
/// must be able to open, to read and to remove.
pub(crate) fn declare(tree: &Tree, indexes: &[IndexConfig]) -> Result<()> {
    let invalid = |error: Error| error.context("key", "indexes");
    for index in indexes {
        let json = json!({ "path": index.path, "fields": index.fields });
        let definition = IndexDefinition::from_json(&json).map_err(invalid)?;
        match create_index(tree, &definition) {
            Err(error)
                if error.fact("reason") == Some("storage_full")
                    || error.kind() == ErrorKind::Unsupported =>
            {
                tracing::warn!(%error, "an index of the configuration is not created");
            }
            created => drop(created.map_err(invalid)?),
        }
    }
    Ok(())
}
