//! The thread of a link that this node makes: dials, drives the link, waits, dials again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, PeerAddress, PeerLink};

use crate::backoff::{Backoff, Ended};
use crate::event::Now;
use crate::node_link::{Driver, LinkOutcome};
use crate::node_poll::{self, Boxed};
use crate::node_shared::{LinkEntry, Shared, identity};
use crate::session::{Role, Session};
use crate::task::Task;
use crate::topology::Dial;

/// Until the node closes.
pub(crate) fn run(shared: &Shared, entry: &LinkEntry, dial: &Dial) {
    let mut backoff = Backoff::default();
    while !shared.is_closing() {
        let attempt = {
            let mut state = entry.state.lock();
            state.attempts += 1;
            state.next_attempt_at = None;
            state.attempts
        };
        let outcome = match connect(shared, entry, dial) {
            None => return,
            Some(Ok(link)) => {
                let peer = identity(link.peer(), &entry.address);
                let role = Role::Dialer(Box::new(dial.plan.clone()));
                let session = Session::new(role, shared.session_config(peer, attempt));
                guarded(shared, entry, link.as_ref(), session)
            }
            Some(Err(error)) => {
                LinkOutcome { ended: ended(&error), live: Duration::ZERO, error: error.to_string() }
            }
        };
        if shared.is_closing() {
            return;
        }
        let LinkOutcome { ended, live, error } = outcome;
        let wait = backoff.wait(ended, live, shared.runtime.random().next_u64());
        let link = entry.id.as_str();
        if entry.failed(&error) {
            tracing::warn!(link, address = %entry.address, %error, ?wait, "a link is down");
        } else {
            tracing::debug!(link, %error, ?wait, "a link is still down");
        }
        entry.state.lock().next_attempt_at = Some(shared.now().mono.saturating_add(wait));
        shared.pause(&entry.mail.alarm, wait);
    }
}

/// `None` when the node closes.
fn connect(
    shared: &Shared,
    entry: &LinkEntry,
    dial: &Dial,
) -> Option<Result<Box<dyn PeerLink>, Error>> {
    let token = shared.options.tokens.get(dial.id.as_ref()).cloned();
    let address = PeerAddress { url: dial.url.clone(), token };
    let mut connecting: Boxed<'_, _> = shared.replicator.connect(&address);
    let clock = shared.runtime.clock().as_ref();
    node_poll::wait(&mut connecting, &entry.mail.alarm, clock, None, &|| shared.is_closing())
}

fn ended(error: &Error) -> Ended {
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::InvalidInput => Ended::Refused,
        _ => Ended::Away,
    }
}

/// Drives a link. A defect ends the link and nothing else.
pub(crate) fn guarded(
    shared: &Shared,
    entry: &LinkEntry,
    link: &dyn PeerLink,
    session: Session,
) -> LinkOutcome {
    let drive = || Driver::new(shared, entry, link, session).run();
    catch_unwind(AssertUnwindSafe(drive)).unwrap_or_else(|_| {
        tracing::error!(link = %entry.id, "the driver of a link broke down; the link begins anew");
        entry.mail.close();
        give_up_slot(shared, entry);
        let error = "the driver of the link broke down: see the log".to_owned();
        LinkOutcome { ended: Ended::Away, live: Duration::ZERO, error }
    })
}

/// The follower of a link that broke down is not connected any more.
fn give_up_slot(shared: &Shared, entry: &LinkEntry) {
    let slot = entry.state.lock().session.push.as_ref().map(|push| push.slot.clone());
    let Some(consumer) = slot else { return };
    let now: Now = shared.now();
    let close = || shared.store.execute(now, Task::CloseSlot { consumer });
    let _done = catch_unwind(AssertUnwindSafe(close));
}
