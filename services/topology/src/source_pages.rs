//! The source of a feed while it sends pages: one request at a time, within the credit, and one of
//! the places for that ([`crate::slots::SlotOptions::fills_at_once`]), which it waits for.

use std::collections::VecDeque;
use std::time::Duration;

use crate::message::{Message, Page, PageRequest, Refusal};
use crate::source::{Source, Stage, Stream};
use crate::source_check::part_scope;
use crate::status::FeedState;
use crate::task::{PageRead, Task, TaskOutcome};
use crate::turn::{Purpose, Turn, beyond, failed, unexpected};

/// Time between two looks whether there is a place.
const QUEUE_LOOK: Duration = Duration::from_millis(250);

impl Source {
    /// There is no place for another follower that is filled: it is told how many come before it,
    /// and asked for again.
    pub(crate) fn on_queued(&mut self, ahead: u32, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.again_at = Some(turn.now.mono + QUEUE_LOOK);
        self.status.state = FeedState::Queued;
        if self.ahead == Some(ahead) {
            return Ok(());
        }
        self.ahead = Some(ahead);
        turn.send(&Message::Queued { ahead }).map(|_| ())
    }

    /// Looks again whether there is a place.
    pub(crate) fn pump_queued(&mut self, turn: &mut Turn<'_>) {
        if self.again_at.take_if(|at| *at <= turn.now.mono).is_some() {
            self.ask_slot(turn);
        }
    }

    /// Others may be filled: everything was sent, or its follower takes nothing.
    pub(crate) fn give_place(&mut self, turn: &mut Turn<'_>) {
        if self.place_until.take().is_some() {
            let consumer = self.status.slot.clone();
            turn.run(Purpose::Aside, Task::Filled { consumer });
        }
    }

    /// A follower that takes nothing for long does not keep others waiting. Once it goes on it is
    /// one more than there are places.
    pub(crate) fn place_due(&mut self, turn: &mut Turn<'_>) {
        if self.place_until.is_some_and(|until| until <= turn.now.mono) {
            self.give_place(turn);
        }
    }

    fn got_on(&mut self, turn: &Turn<'_>) {
        if let Some(until) = &mut self.place_until {
            *until = turn.now.mono + turn.options.stalled_after;
        }
    }

    pub(crate) fn on_page_request(
        &mut self,
        request: PageRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let parts = if self.since.is_some() { 1 } else { self.scope.within.len() };
        let known_part = usize::try_from(request.part).is_ok_and(|part| part < parts);
        if self.stage != Stage::Pages || request.number <= self.last_number || !known_part {
            return Err(Refusal::protocol("pages are asked for that are not there"));
        }
        self.last_number = request.number;
        self.got_on(turn);
        self.stream = Some(Stream {
            number: request.number,
            part: request.part,
            start: request.start,
            items_max: request.items_max.clamp(1, 5000),
            bytes_max: request.bytes_max.clamp(1, 256 << 10),
            in_flight: VecDeque::new(),
            acked: 0,
            reading: false,
            ended: false,
        });
        self.pump(turn);
        Ok(())
    }

    pub(crate) fn on_page_ack(
        &mut self,
        number: u64,
        pages: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else {
            let known = number <= self.last_number;
            return if known { Ok(()) } else { Err(beyond("pages")) };
        };
        let sent = stream.acked + u64::try_from(stream.in_flight.len()).unwrap_or(0);
        if pages > sent {
            return Err(beyond("pages"));
        }
        let before = stream.acked;
        while stream.acked < pages && stream.in_flight.pop_front().is_some() {
            stream.acked += 1;
        }
        if stream.acked > before {
            self.got_on(turn);
        }
        self.pump(turn);
        Ok(())
    }

    pub(crate) fn pump_pages(&mut self, turn: &mut Turn<'_>) {
        let Some(stream) = &mut self.stream else { return };
        let in_flight: usize = stream.in_flight.iter().sum();
        self.status.in_flight = in_flight;
        let pages_max = usize::try_from(turn.options.pages_in_flight).unwrap_or(1).max(1);
        let credit = in_flight < turn.options.credit_bytes && stream.in_flight.len() < pages_max;
        if stream.reading || stream.ended || !credit {
            return;
        }
        stream.reading = true;
        let items_max = usize::try_from(stream.items_max).unwrap_or(1);
        let bytes_max = usize::try_from(stream.bytes_max).unwrap_or(1);
        let task = if let Some(after) = self.since {
            let (scope, start) = (self.scope.clone(), stream.start.clone());
            Task::ReadDelta { scope, after, start, items_max, bytes_max }
        } else {
            let scope = part_scope(&self.scope, stream.part).unwrap_or_default();
            let start = stream.start.clone().unwrap_or_default();
            Task::ReadPage { scope, start, items_max, bytes_max }
        };
        turn.run(Purpose::Page(stream.number), task);
    }

    pub(crate) fn on_page(
        &mut self,
        number: u64,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let PageRead { ops, next, rev } = match outcome {
            TaskOutcome::Page(page) => page,
            TaskOutcome::TailGone => return self.reopen(turn),
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        self.head = self.head.max(rev);
        // Asked for again meanwhile: another stream goes on.
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else {
            return Ok(());
        };
        let parts = if self.since.is_some() { 1 } else { self.scope.within.len() };
        let part = stream.part;
        let start = std::mem::replace(&mut stream.start, next.clone());
        stream.reading = false;
        if next.is_none() {
            stream.part += 1;
            stream.ended = usize::try_from(stream.part).map_or(true, |part| part >= parts);
        }
        let page = Page { number, part, start, ops, next, head: self.head };
        let bytes = turn.send(&Message::Page(page))?;
        stream.in_flight.push_back(bytes);
        self.status.pages += 1;
        self.pump(turn);
        Ok(())
    }
}
