//! The transports of this repository as networks of one machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trellis_engine_traits::{ErrorKind, Replicator, Result};
use trellis_repl_loopback::{LoopbackHub, LoopbackPass};

use super::combinations::Combination;
use crate::repl::{Factory, Host, Net, Pass};
use crate::{Factory as AnyFactory, Need};

/// Every transport.
pub(super) fn all() -> Vec<Combination<dyn Net>> {
    let ws = Combination { factory: ws_repl(), compiled: cfg!(feature = "wire") };
    vec![Combination { factory: loopback_repl(), compiled: true }, ws]
}

/// Links within a process.
///
/// # Panics
/// Never; it opens nothing.
#[must_use]
pub fn loopback_repl() -> Factory {
    AnyFactory::new("repl-loopback", |_dir: &Path| Ok(Arc::new(Loopback::default()) as Arc<_>))
}

/// Links over WebSockets, behind a server.
///
/// # Panics
/// When it is opened in a build without the feature `wire`.
#[must_use]
pub fn ws_repl() -> Factory {
    #[cfg(feature = "wire")]
    let open = |_dir: &Path| super::nets_ws::open();
    #[cfg(not(feature = "wire"))]
    let open = |_dir: &Path| -> Result<Arc<dyn Net>> { unreachable!("it is compiled in") };
    AnyFactory::new("repl-ws", open).offers(&[Need::RawFrames])
}

/// A hub, and names that are given once.
#[derive(Debug, Default)]
pub(super) struct Loopback {
    hub: LoopbackHub,
    endpoints: AtomicU64,
}

impl Loopback {
    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.endpoints.fetch_add(1, Ordering::Relaxed))
    }
}

impl Net for Loopback {
    fn host(&self, name: &str, passes: &[Pass]) -> Result<Host> {
        let pass = |pass: &Pass| LoopbackPass {
            name: Some(pass.name.to_owned()),
            role: Some(pass.role.to_owned()),
            token: pass.token.clone(),
        };
        let passes = passes.iter().map(pass).collect();
        let endpoint = self.hub.endpoint(&self.name(name), passes)?;
        Ok(Host { url: endpoint.url(), replicator: Arc::new(endpoint) })
    }

    fn guest(&self, name: &str) -> Result<Arc<dyn Replicator>> {
        Ok(Arc::new(self.hub.endpoint(&self.name(name), Vec::new())?))
    }

    fn cut(&self) {
        self.hub.cut_all();
    }

    fn strangers(&self) -> Vec<(String, ErrorKind)> {
        [
            ("loopback:nobody", ErrorKind::Unavailable),
            ("loopback:", ErrorKind::InvalidInput),
            ("nonsense", ErrorKind::InvalidInput),
            ("ws://127.0.0.1:1/db", ErrorKind::Unsupported),
        ]
        .map(|(url, kind)| (url.to_owned(), kind))
        .to_vec()
    }

    fn forge(&self, _url: &str, _kind: usize) -> Option<&'static [ErrorKind]> {
        None
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
