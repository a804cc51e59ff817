//! A follower that is filled by pages: of everything, or of what changed since its position.
//!
//! Each page is applied together with the place where the next one begins, so that whatever
//! interrupts it, it goes on there. Pages come while others are applied.

use std::collections::VecDeque;
use std::time::Duration;

use crate::follower::Follower;
use crate::follower_stage::{Applying, Fill, Stage};
use crate::incoming::from_the_future;
use crate::message::{LogPosition, Message, Opened, Page, PageRequest, Refusal};
use crate::planted::{Planted, is_planted};
use crate::position::FillPosition;
use crate::session_options::tolerated;
use crate::status::FeedState;
use crate::turn::Turn;

impl Follower {
    /// The source fills others first.
    pub(crate) fn on_queued(&mut self, ahead: u32, turn: &Turn<'_>) -> Result<(), Refusal> {
        if !matches!(self.stage, Stage::Opening(_)) {
            return Err(Refusal::protocol("a feed waits that was not asked for"));
        }
        self.status.state = FeedState::Queued;
        self.status.queued_behind = Some(ahead);
        self.progress_at = turn.now.mono;
        Ok(())
    }

    /// Begins with the first page.
    pub(crate) fn begin_fill(
        &mut self,
        opened: &Opened,
        since: Option<LogPosition>,
        known_rev: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let mut position = self.following.position(opened.pin, opened.head);
        let fill = FillPosition { since, part: 0, next: None, known_rev };
        position.fill = Some(fill.clone());
        self.position = Some(position);
        self.fill_from(fill, opened, turn)
    }

    /// Goes on with the page at which it was interrupted.
    pub(crate) fn resume_fill(
        &mut self,
        opened: &Opened,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let fill = self.position.as_ref().and_then(|position| position.fill.clone());
        let fill = fill.ok_or_else(|| Refusal::protocol("no pages were interrupted"))?;
        self.fill_from(fill, opened, turn)
    }

    fn fill_from(
        &mut self,
        expected: FillPosition,
        opened: &Opened,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let delta = expected.since.is_some();
        self.status.state = if delta { FeedState::Delta } else { FeedState::Snapshot };
        let fill = Fill {
            number: 0,
            expected,
            ended: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            acked: 0,
            items: turn.options.page_items,
            bytes: turn.options.page_bytes,
            waiting_since: turn.now.mono,
            began: turn.now.mono,
            pin: opened.pin,
        };
        self.show();
        self.request_pages(fill, turn)
    }

    /// Asks for the pages that are missing; what of an earlier request still comes is left out.
    fn request_pages(&mut self, mut fill: Fill, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.requests += 1;
        (fill.number, fill.acked, fill.waiting_since) = (self.requests, 0, turn.now.mono);
        let request = PageRequest {
            number: fill.number,
            part: fill.expected.part,
            start: fill.expected.next.clone(),
            bytes_max: fill.bytes,
            items_max: fill.items,
        };
        self.stage = Stage::Filling(fill);
        turn.send(&Message::PageRequest(request)).map(|_| ())
    }

    pub(crate) fn on_page(
        &mut self,
        page: Page,
        bytes: usize,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        if page.number > self.requests {
            return Err(Refusal::protocol("a page comes that nobody asked for"));
        }
        let Stage::Filling(fill) = &mut self.stage else { return Ok(()) };
        if page.number < fill.number {
            return Ok(());
        }
        if fill.ended || fill.queue_bytes > tolerated(turn.options) {
            return Err(Refusal::protocol("more pages come than there is credit for"));
        }
        self.following.check_page(&page, &fill.expected)?;
        fill.expected.next.clone_from(&page.next);
        if page.next.is_none() {
            fill.expected.part += 1;
            let parts =
                if fill.expected.since.is_some() { 1 } else { self.following.scope.within.len() };
            fill.ended = usize::try_from(fill.expected.part).map_or(true, |part| part >= parts);
        }
        fill.waiting_since = turn.now.mono;
        fill.queue_bytes += bytes;
        fill.queue.push_back(page);
        self.status.head = self.status.head.max(fill.queue.back().map_or(0, |page| page.head));
        self.status.page_bytes += u64::try_from(bytes).unwrap_or(0);
        self.pump(turn)
    }

    /// Applies the pages that came, together.
    pub(crate) fn pump_pages(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Stage::Filling(fill) = &mut self.stage else { return Ok(()) };
        let Some(mut position) = self.position.clone() else { return Ok(()) };
        let mut commits = Vec::with_capacity(fill.queue.len());
        let mut future = None;
        while let Some(page) = fill.queue.front() {
            let versions = page.ops.iter().map(|op| &op.version);
            future = from_the_future(versions, turn.now.wall_ms, turn.options.drift_ms_max);
            let Some(place) = position.fill.as_mut().filter(|_| future.is_none()) else { break };
            let Some(page) = fill.queue.pop_front() else { break };
            let (known_rev, delta) = (place.known_rev, place.since.is_some());
            place.next.clone_from(&page.next);
            place.part += u32::from(page.next.is_none());
            position.complete_at = page.head.max(position.complete_at);
            if page.next.is_none() && fill.ended && fill.queue.is_empty() {
                position.fill = None;
            }
            commits.push(self.following.page_commit(page, known_rev, delta, &position)?);
        }
        if commits.is_empty() {
            self.quarantine(future, turn);
            return Ok(());
        }
        fill.queue_bytes = 0;
        let pages = u64::try_from(commits.len()).unwrap_or(0);
        let durable = if position.fill.is_none() { position.at } else { LogPosition::default() };
        let applying =
            Applying { commits, after: position, durable, pages, at_ms: 0, again_at: None };
        self.apply(applying, turn);
        Ok(())
    }

    /// Pages are durable: more may come, or the tail.
    pub(crate) fn pages_applied(&mut self, pages: u64, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Stage::Filling(fill) = &mut self.stage else { return Ok(()) };
        fill.acked += pages;
        fill.waiting_since = turn.now.mono;
        let (number, pages) = (fill.number, fill.acked);
        let delta = fill.expected.since.is_some();
        self.status.state = if delta { FeedState::Delta } else { FeedState::Snapshot };
        turn.send(&Message::PageAck { number, pages })?;
        if !(fill.ended && fill.queue.is_empty()) {
            return self.pump(turn);
        }
        let late = is_planted(Planted::SlotPinnedLate);
        let after = if late { self.status.head } else { fill.pin.rev };
        self.status.fill_took = Some(turn.now.mono.saturating_sub(fill.began));
        turn.send(&Message::Tail { after })?;
        self.begin_tail(after, turn);
        Ok(())
    }

    /// Asks for a page that did not come again, half as large.
    pub(crate) fn page_due(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.page_deadline(turn.options.page_timeout).is_none_or(|at| turn.now.mono < at) {
            return Ok(());
        }
        self.status.page_timeouts += 1;
        if is_planted(Planted::BootstrapSkipped)
            && let Stage::Filling(fill) = &self.stage
        {
            let after = fill.pin.rev;
            if let Some(position) = &mut self.position {
                position.fill = None;
            }
            turn.send(&Message::Tail { after })?;
            self.begin_tail(after, turn);
            return Ok(());
        }
        let least = turn.options.page_bytes_min;
        let Stage::Filling(mut fill) = std::mem::replace(&mut self.stage, Stage::Tailing) else {
            return Ok(());
        };
        if fill.bytes / 2 >= least.min(fill.bytes) {
            fill.bytes /= 2;
            fill.items = (fill.items / 2).max(1);
        }
        self.request_pages(fill, turn)
    }

    /// When a page is due, if one is waited for.
    pub(crate) fn page_deadline(&self, timeout: Duration) -> Option<Duration> {
        let Stage::Filling(fill) = &self.stage else { return None };
        let idle = !fill.ended && fill.queue.is_empty() && self.applying.is_none();
        idle.then(|| fill.waiting_since + timeout)
    }

    /// Time in which this node was busy counts for nobody.
    pub(crate) fn excuse(&mut self, time: Duration, now: Duration) {
        self.progress_at = (self.progress_at + time).min(now);
        if let Stage::Filling(fill) = &mut self.stage {
            fill.waiting_since = (fill.waiting_since + time).min(now);
        }
    }
}
