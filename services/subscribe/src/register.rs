//! How a subscription begins without a gap and without a duplicate.
//!
//! First it is entered, held: from here on every commit that becomes visible reaches its mailbox.
//! Then a view is taken, at some rev R. A commit up to R is in the snapshot, and is dropped from
//! what is held; a later one became visible after the view was taken, so after the subscription
//! was entered, and is held or still to come. What is due is removed first by an ordinary commit,
//! so that the snapshot is exactly the state on which the events build.

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_query::LiveQuery;
use trellis_tree::{Change, View};

use crate::evaluate::Topic;
use crate::group::Group;
use crate::mailbox::Mailbox;
use crate::moment::{event, too_large};
use crate::registry::Core;
use crate::request::{Acknowledgement, AcknowledgementKind, Resume, SubscribeRequest};
use crate::resumer::Resuming;
use crate::snapshot;
use crate::window::{self, Started};

/// Snapshots of one call, as largest frames: whoever asks for many waits for all of them, and they
/// are held meanwhile.
const FRAMES_MAX: usize = 16;

/// A subscription that is entered and has no answer yet.
pub(crate) struct Entered {
    pub(crate) id: u64,
    pub(crate) group: Arc<Group>,
    pub(crate) resume: Option<Resume>,
}

impl Core {
    pub(crate) fn subscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        requests: Vec<(String, SubscribeRequest)>,
    ) -> Vec<Result<Acknowledgement>> {
        let mut answers: Vec<Option<Result<Acknowledgement>>> = Vec::new();
        let mut entered = Vec::new();
        for (place, (name, request)) in requests.into_iter().enumerate() {
            let SubscribeRequest { pattern, event, mode, resume } = request;
            match self.join(&name, Topic { pattern, event, mode }, mailbox) {
                Ok((id, group)) => {
                    entered.push((place, Entered { id, group, resume }));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        for (place, answer) in self.begin(mailbox, entered) {
            if let Some(slot) = answers.get_mut(place) {
                *slot = Some(answer);
            }
        }
        let unanswered = || Err(crate::mailbox::closed());
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    fn begin(
        &self,
        mailbox: &Arc<Mailbox>,
        entered: Vec<(usize, Entered)>,
    ) -> Vec<(usize, Result<Acknowledgement>)> {
        // A window follows from before the view that it is started at.
        let windows = entered.iter().map(|(_, entered)| &entered.group);
        let windows: Vec<_> = windows.filter(|group| group.topic().query().is_some()).collect();
        windows.iter().for_each(|group| group.window().begin());
        // All snapshots are of one view. That of a query that goes on comes before the journal is
        // read, so that what touched nothing in there touched nothing up to the view either.
        let mut view = (!windows.is_empty()).then(|| self.settled());
        let resumed = self.resume(self.to_resume(mailbox, &entered));
        let mut bytes_left = self.options.frame_bytes_max.saturating_mul(FRAMES_MAX);
        let answers = entered.into_iter().map(|(place, entered)| {
            let kind = match &entered.resume {
                None => AcknowledgementKind::Fresh,
                Some(_) if resumed.contains(&entered.id) => AcknowledgementKind::Resumed,
                Some(_) => AcknowledgementKind::Reset,
            };
            let Entered { id, group, resume } = entered;
            let since = resume.filter(|_| kind == AcknowledgementKind::Resumed);
            let answer = match since {
                Some(resume) if group.topic().query().is_none() => Ok(self.resumed(resume.since)),
                since => {
                    let view = view.get_or_insert_with(|| self.settled()).as_ref();
                    let full = too_large(self.options.frame_bytes_max);
                    let view = if bytes_left == 0 { Err(&full) } else { view };
                    let shown = self.acknowledge(mailbox, id, &group, view, kind);
                    let bytes = shown.as_ref().map_or(0, |shown| shown.data.len());
                    bytes_left = bytes_left.saturating_sub(bytes);
                    shown.map(|shown| since.map_or(shown, |one| self.resumed(one.since)))
                }
            };
            if answer.is_err() {
                mailbox.leave(id);
                self.part(id, &group);
            }
            (place, answer)
        });
        answers.collect()
    }

    /// Those that may go on where they were left.
    fn to_resume(&self, mailbox: &Arc<Mailbox>, entered: &[(usize, Entered)]) -> Vec<Resuming> {
        let wanted = entered.iter().filter_map(|(_, entered)| {
            let resume = entered.resume.as_ref()?;
            self.tree.knows(&resume.epoch, resume.since).then(|| Resuming {
                id: entered.id,
                mailbox: Arc::clone(mailbox),
                topic: entered.group.topic().clone(),
                since: resume.since,
            })
        });
        wanted.collect()
    }

    fn resumed(&self, since: u64) -> Acknowledgement {
        let (data, kind) = (Bytes::from_static(b"null"), AcknowledgementKind::Resumed);
        Acknowledgement { data, rev: since, epoch: self.tree.epoch_token(), kind }
    }

    /// A view that hides nothing, or, where what is due cannot be removed at the moment, one that
    /// hides it as every read does.
    ///
    /// # Errors
    /// `Closed`, those of reads.
    pub(crate) fn settled(&self) -> Result<View> {
        match self.tree.settled_view() {
            Err(error) if error.kind() != ErrorKind::Closed => self.tree.view(),
            view => view,
        }
    }

    /// Takes the snapshot of a held subscription, and starts the window of a query.
    fn acknowledge(
        &self,
        mailbox: &Mailbox,
        id: u64,
        group: &Arc<Group>,
        view: Result<&View, &Error>,
        kind: AcknowledgementKind,
    ) -> Result<Acknowledgement> {
        let bytes_max = self.options.frame_bytes_max;
        let epoch = self.tree.epoch_token();
        let Some(query) = group.topic().query() else {
            let view = view.map_err(Error::duplicate)?;
            let data = snapshot::take(view, group.topic(), bytes_max)?;
            // Nothing is missed, for which there would have to be room.
            let _known = mailbox.know(id, view.rev(), Vec::new());
            return Ok(Acknowledgement { data, rev: view.rev(), epoch, kind });
        };
        let started = view.map_err(Error::duplicate).and_then(|view| {
            let spec = query.spec().clone();
            let (window, items) = LiveQuery::start(&self.queries, view, spec, bytes_max)?;
            Ok((view.rev(), window, window::snapshot(group.topic(), items)))
        });
        let (rev, window, data) = match started {
            Ok((_, _, data)) if data.len() > bytes_max => {
                group.window().give_up();
                return Err(too_large(bytes_max));
            }
            Ok(started) => started,
            Err(error) => {
                group.window().give_up();
                return Err(error);
            }
        };
        let _known = mailbox.know(id, rev, Vec::new());
        let give = |change: &Change, body| self.give(group, event(change, body));
        match group.window().started(group.topic(), window, rev, bytes_max, &give) {
            Started::Joined => {}
            Started::Missed => {
                let _news = mailbox.stale(id);
            }
            Started::Lost(error) => self.cannot_tell(group, &error),
        }
        self.ring();
        Ok(Acknowledgement { data: data.into(), rev, epoch, kind })
    }

    /// A new snapshot for a subscription that was held anew.
    pub(crate) fn refresh(
        &self,
        mailbox: &Mailbox,
        id: u64,
        group: &Arc<Group>,
    ) -> Result<Acknowledgement> {
        if group.topic().query().is_some() {
            group.window().begin();
        }
        let view = self.settled();
        let kind = AcknowledgementKind::Reset;
        let answer = self.acknowledge(mailbox, id, group, view.as_ref(), kind);
        if answer.is_err() {
            mailbox.leave(id);
            self.part(id, group);
        }
        answer
    }
}
