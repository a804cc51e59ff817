//! How a subscription begins without a gap and without a duplicate.
//!
//! First it is entered, held: from here on every commit that becomes visible reaches its mailbox.
//! Then a view is taken, at some rev R. A commit up to R is in the snapshot, and is dropped from
//! what is held; a later one became visible after the view was taken, so after the subscription
//! was entered, and is held or still to come. What is due is removed first by an ordinary commit,
//! so that the snapshot is exactly the state on which the events build.

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::View;

use crate::evaluate::Topic;
use crate::group::Group;
use crate::mailbox::Mailbox;
use crate::registry::Core;
use crate::request::{Acknowledgement, AcknowledgementKind, Resume, SubscribeRequest};
use crate::resume::Resuming;
use crate::snapshot;

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
        let wanted = entered.iter().filter_map(|(_, entered)| {
            let resume = entered.resume.as_ref()?;
            self.tree.knows(&resume.epoch, resume.since).then(|| Resuming {
                id: entered.id,
                mailbox: Arc::clone(mailbox),
                topic: entered.group.topic().clone(),
                since: resume.since,
            })
        });
        let resumed = self.resume(wanted.collect());
        // All snapshots are of one view, taken when the first is.
        let mut view = None;
        let answers = entered.into_iter().map(|(place, entered)| {
            let kind = match &entered.resume {
                None => AcknowledgementKind::Fresh,
                Some(resume) if resumed.contains(&entered.id) => {
                    return (place, Ok(self.resumed(resume.since)));
                }
                Some(_) => AcknowledgementKind::Reset,
            };
            let answer = match view.get_or_insert_with(|| self.settled()) {
                Ok(view) => self.acknowledge(mailbox, entered.id, &entered.group, view, kind),
                Err(error) => Err(error.duplicate()),
            };
            if answer.is_err() {
                mailbox.leave(entered.id);
                self.part(entered.id, &entered.group);
            }
            (place, answer)
        });
        answers.collect()
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

    /// Takes the snapshot of a held subscription.
    fn acknowledge(
        &self,
        mailbox: &Mailbox,
        id: u64,
        group: &Group,
        view: &View,
        kind: AcknowledgementKind,
    ) -> Result<Acknowledgement> {
        let data = snapshot::take(view, group.topic(), self.options.frame_bytes_max)?;
        // Nothing is missed, for which there would have to be room.
        let _known = mailbox.know(id, view.rev(), Vec::new());
        Ok(Acknowledgement { data, rev: view.rev(), epoch: self.tree.epoch_token(), kind })
    }

    /// A new snapshot for a subscription that was held anew.
    pub(crate) fn refresh(
        &self,
        mailbox: &Mailbox,
        id: u64,
        group: &Arc<Group>,
    ) -> Result<Acknowledgement> {
        let view = self.settled();
        let kind = AcknowledgementKind::Reset;
        let answer = view.and_then(|view| self.acknowledge(mailbox, id, group, &view, kind));
        if answer.is_err() {
            mailbox.leave(id);
            self.part(id, group);
        }
        answer
    }
}
