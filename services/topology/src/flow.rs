//! Time: heartbeats, silence, a feed that does not get on, and what is tried again.

use std::time::Duration;

use crate::message::{Heartbeat, Message, Refusal, RefusalReason, WireDigest};
use crate::session::{Session, Stage};
use crate::status::{FeedState, ForwardStatus, SessionStatus};
use crate::turn::Turn;

impl Session {
    /// When [`Event::Tick`](crate::Event::Tick) is due at the latest, on the clock of
    /// [`Now::mono`](crate::Now::mono). Changes with every step.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let options = &self.config.options;
        match self.stage {
            Stage::New | Stage::Ended => None,
            Stage::Greeting => Some(self.heard_at + options.handshake),
            Stage::Up => {
                let always = [self.beat_at, self.heard_at + options.dead_after];
                let follower = self.follower.as_ref();
                let paused = follower.and_then(|follower| {
                    follower.applying.as_ref().and_then(|one| one.again_at).or(follower.quarantine)
                });
                let page = follower.and_then(|one| one.page_deadline(options.page_timeout));
                let sometimes = [self.stalled_at(), paused, page, self.forwards.deadline()];
                let source = self.source.as_ref();
                let again = source.and_then(|source| source.again_at);
                let place = source.and_then(|source| source.place_until);
                let rest = [self.verifier.again_at, again, place];
                always.into_iter().chain(sometimes.into_iter().chain(rest).flatten()).min()
            }
        }
    }

    /// Whether it would do nothing yet about commits that became visible: it will look by itself at
    /// its deadline.
    #[must_use]
    pub fn is_resting(&self, now: Duration) -> bool {
        let source = self.source.as_ref().filter(|source| source.is_tailing());
        source.and_then(|source| source.again_at).is_some_and(|at| now < at)
    }

    /// When the feed counts as stalled, if it is behind and could get on.
    fn stalled_at(&self) -> Option<Duration> {
        let follower = self.follower.as_ref()?;
        let state = follower.status.state;
        let held =
            matches!(state, FeedState::Paused | FeedState::ClockQuarantine | FeedState::Queued);
        let busy = follower.applying.is_some();
        let behind = !follower.is_level();
        (behind && !held && !busy).then(|| follower.progress_at + self.config.options.stalled_after)
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let now = turn.now.mono;
        let stalled = |message: &str| Err(Refusal::new(RefusalReason::Stalled, message));
        match self.stage {
            Stage::New | Stage::Ended => return Ok(()),
            Stage::Greeting if now >= self.heard_at + turn.options.handshake => {
                return stalled("the other node did not say who it is");
            }
            Stage::Greeting => return Ok(()),
            Stage::Up => {}
        }
        if now >= self.heard_at + turn.options.dead_after {
            return stalled("nothing was heard of the other node for too long");
        }
        if self.stalled_at().is_some_and(|at| now >= at) {
            if let Some(follower) = &mut self.follower {
                follower.status.state = FeedState::Stalled;
            }
            return stalled("the feed is behind and nothing came for too long");
        }
        if let Some(follower) = &mut self.follower {
            follower.retry(turn)?;
            follower.page_due(turn)?;
            self.verifier.tick(follower, turn)?;
        }
        let applied = self.follower.as_ref().map(crate::follower::Follower::applied_rev);
        self.forwards.arrived(applied, self.head, turn);
        self.forwards.expire(turn);
        if let Some(source) = &mut self.source {
            source.place_due(turn);
            if source.again_at.is_some() {
                source.pump(turn);
            }
        }
        if now >= self.beat_at {
            self.beat(None, turn)?;
            if let Some(source) = &self.source {
                self.verifier.digest(source, turn);
            }
        }
        Ok(())
    }

    /// Tells that this node is alive.
    pub(crate) fn beat(
        &mut self,
        digest: Option<WireDigest>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.beat_at = turn.now.mono + turn.options.heartbeat;
        let beat = Heartbeat { head: self.head, wall_ms: turn.now.wall_ms, digest };
        turn.send(&Message::Heartbeat(beat)).map(|_| ())
    }

    /// Where it stands. Counters count since the session began.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        let push = self.source.as_ref().map(|source| source.status.clone());
        SessionStatus {
            pull: self.follower.as_ref().map(|follower| follower.status.clone()),
            push: push.filter(|push| !push.slot.is_empty()),
            forwards: ForwardStatus { waiting: self.forwards.waiting(), ..self.forwards.status },
            ..self.status.clone()
        }
    }
}
