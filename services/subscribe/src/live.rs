//! [`Live`]: the subscriptions of one tree.

use std::sync::Arc;

use parking_lot::Mutex;
use trellis_engine_traits::Result;
use trellis_runtime::{Runtime, Worker};
use trellis_tree::Tree;

use crate::inbox::Inbox;
use crate::options::{LiveOptions, LiveStats};
use crate::publisher;
use crate::registry::Core;

/// The subscriptions of one tree. Cheap to clone; the last clone to go closes them.
///
/// One thread follows the tree while there are subscriptions, and finds those that a commit
/// touches in time that follows the depth of its paths and the matches, not the number of
/// subscriptions.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_subscribe::{Delivery, Live, LiveOptions, Pattern, SubscribeRequest};
/// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
///
/// let runtime = Runtime::system();
/// let tree = Tree::open(
///     Arc::new(MemoryKv::new()),
///     Arc::new(MemoryLog::new()),
///     Arc::clone(&runtime),
///     TreeOptions::default(),
/// )?;
/// let live = Live::start(tree.clone(), &runtime, LiveOptions::default())?;
/// let inbox = live.inbox();
/// let begun = inbox.subscribe("1", SubscribeRequest::value(Pattern::parse("a")?))?;
/// assert_eq!(begun.data, "null");
/// inbox.activate("1");
/// tree.commit(Commit::set(Path::parse("a")?, Input::parse(b"5")?))?;
/// let arrived = inbox.wait(Duration::from_secs(10));
/// let Delivery::Event { event, .. } = &arrived[0] else { panic!() };
/// assert_eq!(event.body, r#"[{"type":"value","value":5}]"#);
/// assert!(event.rev > begun.rev);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Live {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    worker: Mutex<Option<Worker>>,
}

impl Live {
    /// Starts the subscriptions of a tree.
    ///
    /// # Errors
    /// `Unavailable` when the system refuses another thread.
    pub fn start(tree: Tree, runtime: &Runtime, options: LiveOptions) -> Result<Self> {
        let core = Arc::new(Core::new(tree, options));
        let own = Arc::clone(&core);
        let clock = Arc::clone(runtime.clock());
        let worker =
            runtime.spawn_worker("publish", move || publisher::run(&own, clock.as_ref()))?;
        Ok(Self { handle: Arc::new(Handle { core, worker: Mutex::new(Some(worker)) }) })
    }

    /// A new inbox, as a rule one for each connection. Dropping it ends its subscriptions.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.handle.core))
    }

    /// How this was started.
    #[must_use]
    pub fn options(&self) -> &LiveOptions {
        &self.handle.core.options
    }

    /// Where the subscriptions stand.
    ///
    /// # Cost
    /// A short lock for each inbox.
    #[must_use]
    pub fn stats(&self) -> LiveStats {
        self.handle.core.stats()
    }

    /// Ends all subscriptions and the thread. Idempotent; inboxes answer `Closed` from then on, and
    /// whoever waits for one gets nothing at once. The tree stays open.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        self.core.close();
        if let Some(worker) = self.worker.lock().take() {
            worker.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
