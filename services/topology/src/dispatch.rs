//! Which part of a session an event is for.

use trellis_tree::Scope;

use crate::event::{Action, Event};
use crate::follower::Follower;
use crate::handshake;
use crate::message::{Hello, Message, Refusal, RefusalReason};
use crate::session::{Role, Session, Stage};
use crate::source::Source;
use crate::status::LinkState;
use crate::task::{Task, TaskId, TaskOutcome};
use crate::turn::{Purpose, Turn, unexpected};

impl Session {
    /// Takes an event; a refusal ends the link.
    pub(crate) fn take(&mut self, event: Event, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.stage == Stage::Ended {
            // A caller's write is answered, whatever happened.
            if let Event::Forward(id, request) = event {
                self.forwards.send(id, &request, false, turn)?;
            }
            return Ok(());
        }
        match event {
            Event::Connected => self.connected(turn),
            Event::Received(frame) => {
                // For the first word there is a time, however many parts of it come.
                if self.stage != Stage::Greeting {
                    self.heard_at = turn.now.mono;
                }
                match self.parts.take(&frame)? {
                    Some((message, bytes)) => self.hear(message, bytes, turn),
                    None => Ok(()),
                }
            }
            Event::Done(id, outcome) => self.done(id, outcome, turn),
            Event::Committed(head) => {
                self.head = self.head.max(head);
                self.verifier.committed(turn.now.mono);
                if let Some(source) = &mut self.source {
                    source.head = self.head;
                    source.pump(turn);
                }
                Ok(())
            }
            Event::Forward(id, request) => {
                self.forwards.send(id, &request, self.stage == Stage::Up, turn)
            }
            Event::Verify { repair } => match &self.follower {
                Some(follower) => self.verifier.demand(repair, follower, turn),
                None => Ok(()),
            },
            Event::Resync => match &mut self.follower {
                Some(follower) => follower.resync(turn),
                None => Ok(()),
            },
            Event::Tick => self.tick(turn),
            Event::Closed => {
                self.end(Refusal::new(RefusalReason::Closing, "the link ended"), false, turn);
                Ok(())
            }
        }
    }

    fn connected(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.stage != Stage::New {
            return Err(unexpected());
        }
        self.stage = Stage::Greeting;
        self.heard_at = turn.now.mono;
        if let Role::Dialer(_) = self.role {
            let hello = handshake::hello(&self.role, &self.config, self.head, turn.now.wall_ms);
            turn.send(&Message::Hello(hello))?;
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let plan = handshake::agree(&self.role, &self.config, &hello)?;
        if let Role::Acceptor(_) = self.role {
            let own = handshake::hello(&self.role, &self.config, self.head, turn.now.wall_ms);
            turn.send(&Message::Welcome(own))?;
        }
        self.stage = Stage::Up;
        self.parts.take_up_to(turn.options.message_bytes_max);
        self.heard_at = turn.now.mono;
        self.beat_at = turn.now.mono + turn.options.heartbeat;
        self.status.link = LinkState::Up;
        self.status.peer_head = hello.head;
        self.status.peer_ahead_ms = ahead(hello.wall_ms, turn.now.wall_ms);
        let owner = self.config.peer.owner();
        self.source = plan.push.map(|push| Source::new(push, owner, hello.node, self.head));
        self.follower =
            plan.pull.map(|pull| Follower::new(pull, self.config.node, hello.node, turn));
        (self.forward_scope, self.forward_kept) = (plan.forward, plan.kept);
        self.status.peer = Some((hello.node, hello.name));
        Ok(())
    }

    fn hear(&mut self, message: Message, bytes: usize, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if let Message::Refuse(refusal) = message {
            self.end(refusal.bounded(), false, turn);
            return Ok(());
        }
        if self.stage != Stage::Up {
            let hello = handshake::first_word(&self.role, message)?;
            return self.greet(hello, turn);
        }
        match message {
            Message::Hello(_) | Message::Welcome(_) => {
                Err(Refusal::protocol("the first word is said twice"))
            }
            Message::Refuse(_) => Ok(()),
            Message::Heartbeat(beat) => {
                self.status.peer_head = self.status.peer_head.max(beat.head);
                self.status.peer_ahead_ms = ahead(beat.wall_ms, turn.now.wall_ms);
                if let Some(source) = &mut self.source {
                    let have = self.follower.as_ref().map_or(u64::MAX, Follower::applied_rev);
                    source.on_head(beat.head, have, turn);
                }
                let Some(follower) = &mut self.follower else { return Ok(()) };
                follower.status.head = follower.status.head.max(beat.head);
                follower.note_level(turn);
                let Some(digest) = beat.digest else { return Ok(()) };
                self.verifier.compare(digest, follower, self.source.as_ref(), turn);
                Ok(())
            }
            Message::Forward(message) => {
                let nowhere = Scope::default();
                let granted = match self.role {
                    Role::Acceptor(_) => &self.forward_scope,
                    Role::Dialer(_) => &nowhere,
                };
                self.forwards.on_forward(message, granted, &self.forward_kept, turn)
            }
            Message::Forwarded { number, answer } => {
                let applied = self.follower.as_ref().map(Follower::applied_rev);
                self.forwards.on_answer(number, answer, applied, self.head, turn)
            }
            asked @ (Message::Open(_)
            | Message::PageRequest(_)
            | Message::PageAck { .. }
            | Message::Tail { .. }
            | Message::Ack(_)
            | Message::Verify
            | Message::Leaves { .. }) => self.asked(asked, turn),
            told => self.told(told, bytes, turn),
        }
    }

    /// What the peer's follower says.
    fn asked(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Some(source) = &mut self.source else {
            return Err(crate::turn::denied("this peer may not pull anything here"));
        };
        match message {
            Message::Open(open) => {
                source.on_open(open, turn)?;
                let known = known(self.follower.as_ref());
                source.begin(known, turn);
                Ok(())
            }
            Message::PageRequest(request) => source.on_page_request(request, turn),
            Message::PageAck { number, pages } => source.on_page_ack(number, pages, turn),
            Message::Tail { after } => source.on_tail(after, turn),
            Message::Ack(ack) => source.on_ack(ack, turn),
            Message::Verify => self.verifier.on_verify(source, turn),
            Message::Leaves { number, buckets, start } => {
                self.verifier.on_leaves(number, buckets, start, source, turn)
            }
            _ => Err(unexpected()),
        }
    }

    /// What the peer's source says.
    fn told(&mut self, message: Message, bytes: usize, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Some(follower) = &mut self.follower else {
            let reason = RefusalReason::PushNotAccepted;
            return Err(Refusal::new(reason, "this node follows nothing of its peer"));
        };
        match message {
            Message::Opened(opened) => follower.on_opened(opened, turn),
            Message::Queued { ahead } => follower.on_queued(ahead, turn),
            Message::Page(page) => follower.on_page(page, bytes, turn),
            Message::Batch(batch) => {
                follower.on_batch(batch, bytes, turn)?;
                self.forwards.arrived(Some(follower.applied_rev()), self.head, turn);
                Ok(())
            }
            Message::Reopen => follower.reopen(false, turn),
            Message::Buckets { rev, buckets } => {
                self.verifier.on_buckets(rev, buckets, follower, turn)
            }
            Message::BucketPage { number, rev, ops, next } => {
                self.verifier.on_bucket_page(number, rev, ops, next, follower, turn)
            }
            _ => Err(unexpected()),
        }
    }

    fn done(
        &mut self,
        id: TaskId,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some((purpose, began)) = turn.tasks.finish(id) else { return Err(unexpected()) };
        // While a task is done nothing is heard, perhaps: that is not the peer's fault.
        let took = turn.now.mono.saturating_sub(began);
        self.heard_at = (self.heard_at + took).min(turn.now.mono);
        if let Some(follower) = &mut self.follower {
            follower.excuse(took, turn.now.mono);
        }
        if let TaskOutcome::Applied(results) = &outcome {
            let newest = results.iter().map(|result| result.rev).max().unwrap_or(0);
            self.head = self.head.max(newest);
        }
        match purpose {
            Purpose::Route(number) => {
                self.forwards.on_routed(number, outcome, self.config.node, turn)
            }
            Purpose::Aside => Ok(()),
            Purpose::Slot
            | Purpose::Page(_)
            | Purpose::Tail
            | Purpose::AckSlot
            | Purpose::Digest { .. }
            | Purpose::Buckets(_) => self.source_done(purpose, outcome, turn),
            _ => self.follower_done(purpose, outcome, turn),
        }
    }

    fn source_done(
        &mut self,
        purpose: Purpose,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(source) = &mut self.source else { return Err(unexpected()) };
        match purpose {
            Purpose::Slot => {
                let known = known(self.follower.as_ref()).unwrap_or_default();
                source.on_slot(outcome, known, turn)
            }
            Purpose::Page(number) => source.on_page(number, outcome, turn),
            Purpose::Tail => source.on_tail_read(outcome, turn),
            Purpose::AckSlot => source.on_slot_moved(outcome, turn),
            Purpose::Digest { buckets } => self.verifier.on_digest(buckets, outcome, source, turn),
            Purpose::Buckets(number) => self.verifier.on_read(number, outcome, turn),
            _ => Err(unexpected()),
        }
    }

    fn follower_done(
        &mut self,
        purpose: Purpose,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(follower) = &mut self.follower else { return Err(unexpected()) };
        match purpose {
            Purpose::LoadPosition => {
                follower.on_position(outcome, turn)?;
                if let Some(source) = &mut self.source {
                    source.begin(follower.known(), turn);
                }
                Ok(())
            }
            Purpose::Known | Purpose::SetAside => follower.on_prepared(outcome, turn),
            Purpose::Apply => {
                follower.on_applied(outcome, turn)?;
                self.forwards.arrived(Some(follower.applied_rev()), self.head, turn);
                Ok(())
            }
            Purpose::SavePosition => follower.on_saved(outcome, turn),
            Purpose::OwnDigest(read) => {
                let source = self.source.as_ref();
                self.verifier.on_own_digest(read, outcome, follower, source, turn)
            }
            Purpose::OwnBuckets(read) => {
                self.verifier.on_own_buckets(read, outcome, follower, turn)
            }
            Purpose::Repair => self.verifier.on_repaired(outcome, follower, turn),
            _ => Err(unexpected()),
        }
    }

    /// Ends the link; `say` whether the peer is told why.
    pub(crate) fn end(&mut self, refusal: Refusal, say: bool, turn: &mut Turn<'_>) {
        if say {
            // What does not fit a message is not told.
            let _told = turn.send(&Message::Refuse(refusal.clone()));
        }
        self.stage = Stage::Ended;
        self.status.link = LinkState::Ended;
        self.status.ended = Some((refusal.reason, refusal.message.clone()));
        if let Some(consumer) = self.source.as_ref().and_then(Source::slot) {
            let consumer = consumer.to_owned();
            turn.run(Purpose::Aside, Task::CloseSlot { consumer });
        }
        if let Some(follower) = &self.follower {
            follower.save_at_end(turn);
        }
        self.forwards.end(turn);
        turn.actions.push(Action::Close(refusal));
    }
}

/// What this node has of the peer's log; `None` while that is being read.
fn known(follower: Option<&Follower>) -> Option<crate::message::LogPosition> {
    follower.map_or_else(|| Some(crate::message::LogPosition::default()), Follower::known)
}

fn ahead(theirs_ms: u64, ours_ms: u64) -> i64 {
    i64::try_from(theirs_ms).unwrap_or(i64::MAX) - i64::try_from(ours_ms).unwrap_or(i64::MAX)
}
