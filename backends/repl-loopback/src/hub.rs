//! [`LoopbackHub`]: the network of a process: names, links, faults, time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, Peer, Result};

use crate::door::{Door, LoopbackPass};
use crate::faults::{Faults, LinkOpening};
use crate::link::{HubTime, LoopbackLink, SharedLink};
use crate::state::{LinkState, Side};

type Plan = Arc<dyn Fn(&LinkOpening) -> Faults + Send + Sync>;

/// Names endpoints and makes links between them. Cheap to clone; every clone is the same hub.
///
/// ```
/// use trellis_engine_traits::Replicator;
/// use trellis_repl_loopback::LoopbackHub;
///
/// let hub = LoopbackHub::new();
/// let central = hub.endpoint("central", Vec::new())?;
/// assert_eq!(central.url(), "loopback:central");
/// assert_eq!(central.profile().name, "loopback");
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct LoopbackHub {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    time: Arc<HubTime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    doors: HashMap<String, Arc<Door>>,
    links: Vec<MadeLink>,
    plan: Option<Plan>,
    openings: u64,
    /// The other ends of duplicates: held, so that these links look alive.
    ghosts: Vec<LoopbackLink>,
}

struct MadeLink {
    from: String,
    to: String,
    link: Weak<SharedLink>,
}

impl LoopbackHub {
    /// A hub without endpoints and faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a door under a name.
    ///
    /// # Errors
    /// `AlreadyExists` while another endpoint of this name is open.
    pub(crate) fn open_door(&self, name: &str, passes: Vec<LoopbackPass>) -> Result<Arc<Door>> {
        let mut state = self.inner.state.lock();
        if state.doors.get(name).is_some_and(|door| !door.is_closed()) {
            let message = "an endpoint of this name is open; names are unique at a hub";
            return Err(Error::new(ErrorKind::AlreadyExists, message).backend("loopback"));
        }
        let door = Arc::new(Door::new(name, passes));
        state.doors.insert(name.to_owned(), Arc::clone(&door));
        Ok(door)
    }

    /// Decides about every link from now on; `None` for no faults.
    pub fn plan_faults(
        &self,
        plan: Option<impl Fn(&LinkOpening) -> Faults + Send + Sync + 'static>,
    ) {
        self.inner.state.lock().plan = plan.map(|plan| Arc::new(plan) as Plan);
    }

    /// Moves the hub's time on, so that what was delayed arrives.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.inner.time.advance(micros);
        for (_, _, link) in self.links() {
            link.with(|state, _| state.wake_all());
        }
    }

    /// Breaks every link between two endpoints, whoever dialed; answers how many there were.
    pub fn cut(&self, one: &str, other: &str) -> usize {
        let between =
            |from: &str, to: &str| (from == one && to == other) || (from == other && to == one);
        let links = self.links();
        let cut = links.iter().filter(|(from, to, _)| between(from, to));
        cut.map(|(_, _, link)| link.with(|state, now| state.break_off(now, "the link was cut")))
            .count()
    }

    /// Breaks every link; answers how many there were.
    pub fn cut_all(&self) -> usize {
        let links = self.links();
        for (_, _, link) in &links {
            link.with(|state, now| state.break_off(now, "the link was cut"));
        }
        links.len()
    }

    fn links(&self) -> Vec<(String, String, Arc<SharedLink>)> {
        let mut state = self.inner.state.lock();
        state.links.retain(|made| made.link.strong_count() > 0);
        let made = state.links.iter();
        made.filter_map(|made| Some((made.from.clone(), made.to.clone(), made.link.upgrade()?)))
            .collect()
    }

    /// A link from `from` to the endpoint `to`, if that takes it.
    pub(crate) fn dial(&self, from: &str, to: &str, token: Option<&str>) -> Result<LoopbackLink> {
        let unreachable = |message: &str| {
            Err(Error::new(ErrorKind::Unavailable, message)
                .backend("loopback")
                .operation("connect"))
        };
        let (opening, door, plan) = {
            let mut state = self.inner.state.lock();
            let opening =
                LinkOpening { number: state.openings, from: from.to_owned(), to: to.to_owned() };
            state.openings += 1;
            (opening, state.doors.get(to).cloned(), state.plan.clone())
        };
        let faults = plan.map(|plan| plan(&opening)).unwrap_or_default();
        if faults.refuse {
            return unreachable("the fault plan refuses this link");
        }
        let Some(door) = door.filter(|door| !door.is_closed()) else {
            return unreachable("no endpoint of this name is open at the hub");
        };
        let guest = door.admit(from, token)?;
        let (dialed, accepted) = self.pair(&opening, &faults, &guest);
        door.enter(accepted)?;
        if faults.duplicate {
            let (ghost, twin) = self.pair(&opening, &Faults::default(), &guest);
            door.enter(twin)?;
            self.inner.state.lock().ghosts.push(ghost);
        }
        Ok(dialed)
    }

    fn pair(
        &self,
        opening: &LinkOpening,
        faults: &Faults,
        guest: &Peer,
    ) -> (LoopbackLink, LoopbackLink) {
        let time = Arc::clone(&self.inner.time);
        let shared = SharedLink::new(LinkState::new(faults.clone()), time);
        let address = format!("loopback:{}", opening.to);
        let host = Peer { name: None, role: None, is_local: true, address };
        let dialed = LoopbackLink::new(Arc::clone(&shared), Side::Dialing, host);
        let accepted = LoopbackLink::new(Arc::clone(&shared), Side::Accepting, guest.clone());
        let made = MadeLink {
            from: opening.from.clone(),
            to: opening.to.clone(),
            link: Arc::downgrade(&shared),
        };
        let mut state = self.inner.state.lock();
        state.links.retain(|made| made.link.strong_count() > 0);
        state.links.push(made);
        (dialed, accepted)
    }

    /// Ends every link of an endpoint.
    pub(crate) fn close_links_of(&self, name: &str) {
        for (from, to, link) in self.links() {
            for (endpoint, side) in [(&from, Side::Dialing), (&to, Side::Accepting)] {
                if endpoint == name {
                    link.with(|state, now| state.close(side, now, "the replicator was closed"));
                }
            }
        }
    }
}

impl fmt::Debug for LoopbackHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        f.debug_struct("LoopbackHub")
            .field("endpoints", &state.doors.len())
            .field("links_asked_for", &state.openings)
            .field("now", &self.inner.time.now())
            .finish()
    }
}
