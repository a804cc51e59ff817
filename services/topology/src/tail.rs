//! A follower in the tail: whole commits, as they are made at the source.

use crate::follower::Follower;
use crate::follower_stage::{Applying, Stage, Waiting};
use crate::incoming::from_the_future;
use crate::message::{Batch, LogPosition, Refusal};
use crate::session_options::tolerated;
use crate::status::FeedState;
use crate::task::{Task, TaskOutcome};
use crate::turn::{Purpose, Turn, unexpected};

impl Follower {
    pub(crate) fn on_batch(
        &mut self,
        batch: Batch,
        bytes: usize,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        match self.stage {
            Stage::Tailing => {}
            // Sent before the source heard that it is opened again.
            Stage::Opening(_) | Stage::Reopening { .. } => return Ok(()),
            _ => return Err(Refusal::protocol("commits come before they were asked for")),
        }
        if self.queue_bytes > tolerated(turn.options) {
            return Err(Refusal::protocol("more commits come than there is credit for"));
        }
        self.following.check_batch(&batch, self.received)?;
        self.received = batch.through;
        self.status.head = self.status.head.max(batch.head);
        self.queue_bytes += bytes;
        self.queue.push_back(Waiting { batch, bytes });
        self.pump(turn)
    }

    /// Applies what came, as far as it can be.
    pub(crate) fn pump(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.applying.is_some() || self.quarantine.is_some() {
            return Ok(());
        }
        match self.stage {
            Stage::Filling(_) => self.pump_pages(turn),
            Stage::Tailing => self.pump_tail(turn),
            _ => Ok(()),
        }
    }

    fn pump_tail(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Some(mut position) = self.position.clone() else { return Ok(()) };
        let (mut commits, mut durable, mut at_ms) = (Vec::new(), self.durable, 0);
        let (mut future, before) = (None, position.at);
        while let Some(Waiting { batch, .. }) = self.queue.front() {
            let records = batch.commits.iter();
            let versions = records.flat_map(|record| {
                std::iter::once(&record.author.version)
                    .chain(record.ops.iter().map(|op| &op.version))
            });
            future = from_the_future(versions, turn.now.wall_ms, turn.options.drift_ms_max);
            if future.is_some() {
                break;
            }
            let Some(Waiting { mut batch, bytes }) = self.queue.pop_front() else { break };
            self.queue_bytes = self.queue_bytes.saturating_sub(bytes);
            let came = batch.commits.len();
            batch.commits.retain(|record| !self.following.is_echo(record));
            self.status.echoes += u64::try_from(came - batch.commits.len()).unwrap_or(0);
            let through = LogPosition { rev: batch.through, hash: batch.hash, ..position.at };
            let left = batch.commits.len();
            for (index, record) in batch.commits.into_iter().enumerate() {
                at_ms = at_ms.max(record.at_ms);
                // The last one stands for what was left out behind it, too.
                position.at = if index + 1 == left {
                    through
                } else {
                    LogPosition { rev: record.rev, hash: record.hash, ..through }
                };
                commits.push(self.following.commit(record, &position)?);
            }
            position.at = through;
            if left > 0 {
                durable = through;
            }
        }
        if !commits.is_empty() {
            let after = position;
            let applying = Applying { commits, after, durable, pages: 0, at_ms, again_at: None };
            self.apply(applying, turn);
            return Ok(());
        }
        if position.at != before {
            self.position = Some(position);
            self.progress_at = turn.now.mono;
            self.show();
            self.acknowledge(turn)?;
            self.save_skips(turn);
        }
        self.quarantine(future, turn);
        Ok(())
    }

    /// Waits for the clock: what is from the future is neither applied nor skipped.
    pub(crate) fn quarantine(&mut self, ahead_ms: Option<u64>, turn: &Turn<'_>) {
        let Some(ahead_ms) = ahead_ms else { return };
        if self.status.state != FeedState::ClockQuarantine {
            self.status.hlc_rejected += 1;
            let feed = &self.status.feed;
            tracing::warn!(%feed, ahead_ms, "a record is from the future; paused");
        }
        self.status.state = FeedState::ClockQuarantine;
        self.status.paused = Some(format!("a record is {ahead_ms} ms ahead of this node's clock"));
        self.quarantine = Some(turn.now.mono + turn.options.retry_after);
    }

    /// Tries again what could not be applied.
    pub(crate) fn retry(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let due = |at: &mut std::time::Duration| *at <= turn.now.mono;
        if self.quarantine.take_if(due).is_some() {
            self.status.paused = None;
            return self.pump(turn);
        }
        let again =
            |applying: &mut Applying| applying.again_at.is_some_and(|at| at <= turn.now.mono);
        if let Some(mut applying) = self.applying.take_if(again) {
            applying.again_at = None;
            self.apply(applying, turn);
        }
        Ok(())
    }

    /// Writes the position by itself when it moved far without data.
    pub(crate) fn save_skips(&mut self, turn: &mut Turn<'_>) {
        let Some(position) = &self.position else { return };
        let moved = position.at.rev.saturating_sub(self.durable.rev);
        if self.saving || self.applying.is_some() || moved < turn.options.skips_unwritten_max {
            return;
        }
        self.saving = true;
        let (feed, position) = (self.status.feed.clone(), position.clone());
        turn.run(Purpose::SavePosition, Task::SavePosition { feed, position });
    }

    /// Writes the position when the link ends, if it moved without data.
    pub(crate) fn save_at_end(&self, turn: &mut Turn<'_>) {
        let Some(position) = self.position.as_ref().filter(|position| position.fill.is_none())
        else {
            return;
        };
        if matches!(self.stage, Stage::Tailing)
            && self.applying.is_none()
            && position.at.rev > self.durable.rev
        {
            let (feed, position) = (self.status.feed.clone(), position.clone());
            turn.run(Purpose::Aside, Task::SavePosition { feed, position });
        }
    }

    pub(crate) fn on_saved(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.saving = false;
        let stale = std::mem::take(&mut self.stale_save);
        match outcome {
            TaskOutcome::Position(_) if stale => Ok(()),
            TaskOutcome::Position(Some(position)) if position.at.rev > self.durable.rev => {
                self.durable = position.at;
                if self.is_settled() {
                    return self.acknowledge(turn);
                }
                Ok(())
            }
            TaskOutcome::Position(_) => Ok(()),
            TaskOutcome::Failed(error) => {
                tracing::warn!(%error, "the position of a feed could not be written");
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }
}
