//! What waits between the stages of the pipeline.

use std::collections::VecDeque;

use bytes::Bytes;
use trellis_runtime::CompletionSender;

use crate::answer::Outcome;
use crate::change::Entered;
use crate::journal::Position;
use crate::work::Work;

/// Requests taken from the queue at a time: between two takes the overlay's bound is looked at.
const TAKE_REQUESTS_MAX: usize = 64;
/// Their bytes; the last one may go beyond.
const TAKE_BYTES_MAX: usize = 1 << 20;

pub(crate) type Answer = CompletionSender<Outcome>;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    pub(crate) answer: Answer,
}

/// Resolved requests on their way to the journal; their answers wait for its flush.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) records: Vec<Bytes>,
    /// The same, as they were entered into the overlay; several when groups are flushed as one.
    pub(crate) entered: Vec<Entered>,
    pub(crate) bytes: usize,
    pub(crate) last: Position,
    pub(crate) sync: bool,
    pub(crate) answers: Vec<(Answer, Outcome)>,
}

/// What waits between the stages.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    pub(crate) queue: VecDeque<Request>,
    pub(crate) queue_bytes: usize,
    pub(crate) groups: VecDeque<Group>,
    /// Groups resolved and not yet visible or failed.
    pub(crate) in_flight: usize,
    pub(crate) answers: VecDeque<Vec<(Answer, Outcome)>>,
    pub(crate) answering: bool,
}

impl Stages {
    /// Takes some requests; with its first ones a group counts as in flight, so that at no moment
    /// what is under way looks idle.
    pub(crate) fn take(&mut self, first_of_group: bool, taken: &mut Vec<Request>) {
        let mut bytes = 0;
        while taken.len() < TAKE_REQUESTS_MAX
            && bytes < TAKE_BYTES_MAX
            && let Some(request) = self.queue.pop_front()
        {
            bytes += request.bytes;
            taken.push(request);
        }
        self.in_flight += usize::from(first_of_group && !taken.is_empty());
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes);
    }

    /// Forgets what a stage that broke down had in its hands: its writers are told by the loss of
    /// their answer's channel.
    pub(crate) fn drop_lost(&mut self) {
        self.in_flight = self.groups.len();
        self.answering = false;
    }

    /// Whether something is not visible yet; not what a writer carries through in its own thread.
    pub(crate) fn has_more_coming(&self) -> bool {
        !self.queue.is_empty() || self.in_flight > 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight == 0 && self.answers.is_empty() && !self.answering
    }
}
