//! How long a node waits before it dials again, on a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::Result;
use trellis_repl_loopback::LoopbackHub;
use trellis_runtime::{Random, Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_topology::{FeedState, LinkState, LinkStatus, Mode};

use crate::site::{Disks, Site, central, edge, options};

/// Each number is in the upper half, so that a wait is at least half as long as it may be.
#[derive(Debug)]
struct Upper(SeededRandom);

impl Random for Upper {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        self.0.fill(buffer)
    }

    fn next_u64(&self) -> u64 {
        self.0.next_u64() | 1 << 63
    }
}

/// A site whose clock is moved by hand.
fn site(hub: &LoopbackHub, name: &str, clock: &Arc<SimulatedClock>, disks: Disks) -> Site {
    let seed = name.len() as u64;
    let runtime = Runtime::new(RuntimeOptions {
        clock: Arc::clone(clock) as Arc<dyn trellis_runtime::Clock>,
        random: Arc::new(Upper(SeededRandom::new(seed))),
        ..RuntimeOptions::default()
    });
    let links = Arc::new(hub.endpoint(name, Vec::new()).unwrap());
    let spec = if name == "central" { central() } else { edge(&[("shared", Mode::Sync)]) };
    Site::in_time(links, options(name), spec, disks, runtime)
}

/// Looks until it is so; the clock that is moved by hand does not tell when to give up.
fn until(site: &Site, what: &str, is_so: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
    let runtime = Runtime::system();
    let began = runtime.clock().monotonic();
    loop {
        let link = site.link("upstream");
        if is_so(&link) {
            return link;
        }
        let waited = runtime.clock().monotonic() - began;
        assert!(waited < Duration::from_secs(60), "{what}: {link:#?}");
        std::thread::yield_now();
    }
}

/// Promise: after a link that was up for ten seconds a node dials again at once, however often it
/// could not before; after one that was not, it goes on as patiently as it was.
#[test]
fn a_link_that_was_up_for_long_enough_makes_up_for_those_that_failed() {
    let hub = LoopbackHub::new();
    let clock = Arc::new(SimulatedClock::at(1_700_000_000_000));
    let edge = site(&hub, "edge", &clock, Disks::default());
    let pause = |what: &str| {
        let wait = until(&edge, what, |link| link.next_attempt_in.is_some()).next_attempt_in;
        wait.unwrap()
    };
    let over = |wait: Duration| {
        let attempts = edge.link("upstream").attempts;
        clock.advance_ms(u64::try_from(wait.as_millis()).unwrap() + 1);
        until(&edge, "it dials", |link| link.attempts > attempts);
    };
    for _ in 0..9 {
        over(pause("nobody is there"));
    }
    let mut disks = Disks::default();
    for (seconds, waits) in [(9, 15_000..30_000), (10, 125..250)] {
        let center = site(&hub, "central", &clock, disks);
        over(pause("the last attempt failed"));
        until(&edge, "it is up", |link| {
            let state = link.session.pull.as_ref().map(|pull| pull.state);
            link.session.link == LinkState::Up && state == Some(FeedState::Tail)
        });
        clock.advance_ms(seconds * 1000);
        center.node.close();
        let wait = pause("it is down").as_millis();
        assert!(waits.contains(&wait), "{wait} ms after {seconds} s");
        center.tree.close().unwrap();
        disks = center.disks.clone();
    }
}
