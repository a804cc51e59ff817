//! [`Replicator`] at one name of a hub.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;
use trellis_engine_traits::{
    Error, ErrorKind, LinkLimits, LinkToken, PeerAddress, PeerLink, ReplProfile, Replicator, Result,
};

use crate::door::{Door, LoopbackPass};
use crate::hub::LoopbackHub;
use crate::limits::{BUFFERED_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use crate::state::closed;

const PROFILE: ReplProfile = ReplProfile {
    name: "loopback",
    limits: LinkLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        buffered_bytes_max: BUFFERED_BYTES_MAX,
        reason_bytes_max: REASON_BYTES_MAX,
    },
};

/// One endpoint of a [`LoopbackHub`]. Closed when it is dropped.
pub struct LoopbackReplicator {
    hub: LoopbackHub,
    door: Arc<Door>,
}

impl LoopbackHub {
    /// A replicator that others dial as `loopback:name`. Without passes it takes everybody; with
    /// some only who shows one of their tokens.
    ///
    /// # Errors
    /// `AlreadyExists` while another endpoint of this name is open.
    pub fn endpoint(&self, name: &str, passes: Vec<LoopbackPass>) -> Result<LoopbackReplicator> {
        let door = self.open_door(name, passes)?;
        Ok(LoopbackReplicator { hub: self.clone(), door })
    }
}

impl LoopbackReplicator {
    /// What others dial.
    #[must_use]
    pub fn url(&self) -> String {
        format!("loopback:{}", self.door.name)
    }

    fn close_now(&self) {
        if !self.door.is_closed() {
            self.door.close();
            self.hub.close_links_of(&self.door.name);
        }
    }
}

#[async_trait]
impl Replicator for LoopbackReplicator {
    fn profile(&self) -> &ReplProfile {
        &PROFILE
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        if self.door.is_closed() {
            return Err(closed());
        }
        let refused = |kind, message: &str| {
            Err(Error::new(kind, message).backend("loopback").operation("connect"))
        };
        let name = match address.url.split_once(':') {
            Some(("loopback", name)) if !name.is_empty() => name,
            Some(("loopback", _)) => {
                return refused(ErrorKind::InvalidInput, "name an endpoint: `loopback:hub`");
            }
            Some(_) => {
                let message = "another scheme than `loopback:`";
                return refused(ErrorKind::Unsupported, message);
            }
            None => {
                return refused(ErrorKind::InvalidInput, "this is no URL: `loopback:hub` is one");
            }
        };
        let token = address.token.as_ref().map(LinkToken::reveal);
        let link = self.hub.dial(&self.door.name, name, token)?;
        // A close in the meantime has not seen the new link.
        if self.door.is_closed() { Err(closed()) } else { Ok(Box::new(link)) }
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        let link = poll_fn(|context| self.door.poll_accept(context)).await?;
        Ok(Box::new(link))
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }
}

impl Drop for LoopbackReplicator {
    fn drop(&mut self) {
        self.close_now();
    }
}

impl fmt::Debug for LoopbackReplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackReplicator").field("name", &self.door.name).finish_non_exhaustive()
    }
}
