//! Links that break one promise each, so that the family can prove that it finds what it looks
//! for. Each wraps honest links; never use one for anything else.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use trellis_engine_traits::{
    EndedBy, Error, ErrorKind, LinkEnd, LinkMessage, Peer, PeerAddress, PeerLink, ReplProfile,
    Replicator, Result,
};

use super::{Factory, Host, Net, Pass};

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $promise:literal,)*) => {
        /// A way of breaking the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The promise that it breaks.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self { $(Self::$name => $promise,)* }
            }
        }
    };
}

mutants! {
    /// Two messages that have both arrived change places.
    Reorders = "repl.link.order",
    /// Every hundredth message comes twice.
    Duplicates = "repl.link.order",
    /// The last message before a close does not arrive.
    DropsLast = "repl.link.close",
    /// Messages of more than 64 KiB lose their last byte.
    Truncates = "repl.link.whole",
    /// A message that may be compressed arrives as its first byte.
    Squeezes = "repl.link.whole",
    /// `send` never waits.
    NeverWaits = "repl.link.bounded",
    /// What is too large goes out cut to the limit.
    CutsToTheLimit = "repl.link.too_large",
    /// A `next` that is dropped takes a message with it.
    LosesOnCancel = "repl.link.cancel",
    /// A broken connection looks like an orderly end.
    BreaksPolitely = "repl.link.end",
    /// A send that waits when the link breaks waits for ever.
    WaitsForEver = "repl.link.end",
    /// The reason of a close is not told.
    ForgetsReason = "repl.link.close",
    /// After a close messages are still taken.
    SendsAfterClose = "repl.link.close",
    /// Every token will do.
    AnyToken = "repl.connect.denied",
    /// Who is not there gets a link all the same.
    DialsNobody = "repl.connect.refused",
    /// While a send waits on one link, all others of the node wait too.
    SharesRoom = "repl.connect.apart",
    /// A direction that is full holds up the other.
    OneWayAtATime = "repl.link.duplex",
    /// Closing the replicator leaves its links alone.
    LeavesLinks = "repl.close.idempotent",
}

/// The network of `honest`, broken in the way of `mutant`.
#[must_use]
pub fn mutated(honest: &Factory, mutant: Mutant) -> Factory {
    let honest = honest.clone();
    crate::Factory::new(format!("{mutant:?}"), move |dir| {
        Ok(Arc::new(MutantNet { honest: honest.open(dir)?, mutant }) as Arc<dyn Net>)
    })
}

#[derive(Debug)]
struct MutantNet {
    honest: Arc<dyn Net>,
    mutant: Mutant,
}

impl MutantNet {
    fn wrap(&self, honest: Arc<dyn Replicator>) -> Arc<dyn Replicator> {
        let is_full = Arc::new(AtomicBool::new(false));
        Arc::new(MutantReplicator {
            honest,
            mutant: self.mutant,
            is_full,
            closed: AtomicBool::new(false),
        })
    }
}

impl Net for MutantNet {
    fn host(&self, name: &str, passes: &[Pass]) -> Result<Host> {
        let passes = if self.mutant == Mutant::AnyToken { &[] } else { passes };
        let host = self.honest.host(name, passes)?;
        Ok(Host { replicator: self.wrap(host.replicator), url: host.url })
    }

    fn guest(&self, name: &str) -> Result<Arc<dyn Replicator>> {
        Ok(self.wrap(self.honest.guest(name)?))
    }

    fn cut(&self) {
        self.honest.cut();
    }

    fn strangers(&self) -> Vec<(String, ErrorKind)> {
        self.honest.strangers()
    }

    fn forge(&self, url: &str, kind: usize) -> Option<&'static [ErrorKind]> {
        self.honest.forge(url, kind)
    }

    fn close(&self) -> Result<()> {
        self.honest.close()
    }
}

#[derive(Debug)]
struct MutantReplicator {
    honest: Arc<dyn Replicator>,
    mutant: Mutant,
    /// A send waits somewhere.
    is_full: Arc<AtomicBool>,
    closed: AtomicBool,
}

impl MutantReplicator {
    fn wrap(&self, honest: Box<dyn PeerLink>) -> Box<dyn PeerLink> {
        let is_full = if self.mutant == Mutant::SharesRoom {
            Arc::clone(&self.is_full)
        } else {
            Arc::default()
        };
        Box::new(MutantLink {
            honest,
            mutant: self.mutant,
            is_full,
            received: AtomicU32::new(0),
            held: Mutex::default(),
        })
    }
}

#[async_trait]
impl Replicator for MutantReplicator {
    fn profile(&self) -> &ReplProfile {
        self.honest.profile()
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        let dialed = self.honest.connect(address).await;
        if self.mutant == Mutant::DialsNobody && dialed.is_err() {
            return Ok(Box::new(Nobody(Peer::default())));
        }
        Ok(self.wrap(dialed?))
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "closed"));
        }
        Ok(self.wrap(self.honest.accept().await?))
    }

    async fn close(&self) -> Result<()> {
        if self.mutant == Mutant::LeavesLinks {
            self.closed.store(true, Ordering::Release);
            return Ok(());
        }
        self.honest.close().await
    }
}

#[derive(Debug)]
struct MutantLink {
    honest: Box<dyn PeerLink>,
    mutant: Mutant,
    is_full: Arc<AtomicBool>,
    received: AtomicU32,
    /// What was received ahead of its turn.
    held: Mutex<VecDeque<Bytes>>,
}

impl MutantLink {
    fn held(&self) -> std::sync::MutexGuard<'_, VecDeque<Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there already.
    fn look_ahead(&self) -> Option<Result<Option<Bytes>>> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.honest.next()).poll(&mut context) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    /// Sends, and marks that it waits while it does.
    async fn send_marked(&self, message: LinkMessage) -> Result<()> {
        let mut sending = pin!(self.honest.send(message));
        let _mark = Mark(&self.is_full);
        poll_fn(|context| {
            let polled = sending.as_mut().poll(context);
            self.is_full.store(polled.is_pending(), Ordering::Release);
            polled
        })
        .await
    }
}

struct Mark<'a>(&'a AtomicBool);

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[async_trait]
impl PeerLink for MutantLink {
    fn peer(&self) -> &Peer {
        self.honest.peer()
    }

    async fn send(&self, mut message: LinkMessage) -> Result<()> {
        match self.mutant {
            Mutant::NeverWaits => {
                let mut context = Context::from_waker(Waker::noop());
                match pin!(self.honest.send(message)).poll(&mut context) {
                    Poll::Ready(outcome) => return outcome,
                    Poll::Pending => return Ok(()),
                }
            }
            Mutant::CutsToTheLimit => message.body.truncate(512 << 10),
            Mutant::Truncates if message.body.len() > 64 << 10 => {
                message.body.truncate(message.body.len() - 1);
            }
            Mutant::Squeezes if message.compress => message.body.truncate(1),
            Mutant::SendsAfterClose => {
                let is_closed = self.end().is_some_and(|end| end.by == EndedBy::Here);
                return if is_closed { Ok(()) } else { self.honest.send(message).await };
            }
            Mutant::WaitsForEver => {
                let outcome = self.honest.send(message).await;
                if outcome.is_err() {
                    return pending().await;
                }
                return outcome;
            }
            Mutant::SharesRoom if self.is_full.load(Ordering::Acquire) => {
                return pending().await;
            }
            Mutant::SharesRoom | Mutant::OneWayAtATime => return self.send_marked(message).await,
            _ => {}
        }
        self.honest.send(message).await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        if let Some(held) = self.held().pop_front() {
            return Ok(Some(held));
        }
        if self.mutant == Mutant::OneWayAtATime && self.is_full.load(Ordering::Acquire) {
            return pending().await;
        }
        let next = self.honest.next().await;
        match (self.mutant, &next) {
            (Mutant::BreaksPolitely, Err(error)) if error.kind() == ErrorKind::Unavailable => {
                return Ok(None);
            }
            (Mutant::LosesOnCancel, Ok(Some(_))) => {
                let mut first = true;
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
            }
            (Mutant::Duplicates, Ok(Some(body)))
                if self.received.fetch_add(1, Ordering::Relaxed) % 100 == 99 =>
            {
                self.held().push_back(body.clone());
            }
            (Mutant::DropsLast, Ok(Some(_))) => match self.look_ahead() {
                Some(Ok(None)) => return Ok(None),
                Some(Ok(Some(body))) => self.held().push_back(body),
                _ => {}
            },
            (Mutant::Reorders, Ok(Some(body))) => {
                if let Some(Ok(Some(second))) = self.look_ahead() {
                    self.held().push_back(body.clone());
                    return Ok(Some(second));
                }
            }
            _ => {}
        }
        next
    }

    async fn close(&self, reason: &str) -> Result<()> {
        self.honest.close(reason).await
    }

    fn end(&self) -> Option<LinkEnd> {
        let mut end = self.honest.end()?;
        if self.mutant == Mutant::ForgetsReason {
            end.reason.clear();
        }
        Some(end)
    }
}

/// A link to nobody.
#[derive(Debug)]
struct Nobody(Peer);

#[async_trait]
impl PeerLink for Nobody {
    fn peer(&self) -> &Peer {
        &self.0
    }

    async fn send(&self, _message: LinkMessage) -> Result<()> {
        Ok(())
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        pending().await
    }

    async fn close(&self, _reason: &str) -> Result<()> {
        Ok(())
    }

    fn end(&self) -> Option<LinkEnd> {
        None
    }
}
