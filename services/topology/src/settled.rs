//! How far two nodes that both write have heard each other out.
//!
//! A removal may be forgotten once nothing older can still come. That a follower has it is not
//! enough: what it wrote before may still be on its way here, and would live again. So it counts
//! only when everything is here that the follower had when it acknowledged. Messages arrive in
//! order: the head that a follower tells after an acknowledgement holds all that it had then.

/// What of this node's commits a follower is known to have answered for.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    rev: u64,
    /// A commit that the follower has, and its newest one as it told after that.
    waiting: Option<(u64, u64)>,
}

impl Settled {
    /// The commit up to which all is here that the follower wrote before it knew of that.
    pub(crate) const fn rev(&self) -> u64 {
        self.rev
    }

    /// The follower tells its newest commit, having acknowledged `acked` before; `have` is what of
    /// its log is here. Whether that settles more.
    pub(crate) fn heard(&mut self, acked: u64, head: u64, have: u64) -> bool {
        let settles = self.waiting.take_if(|(_, head)| *head <= have);
        if let Some((rev, _)) = settles {
            self.rev = rev;
        }
        if self.waiting.is_none() && acked > self.rev {
            self.waiting = (head > have).then_some((acked, head));
            if self.waiting.is_none() {
                self.rev = acked;
                return true;
            }
        }
        settles.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_settled_once_all_is_here_that_its_follower_had_when_it_acknowledged() {
        let mut settled = Settled::default();
        assert!(!settled.heard(0, 3, 0), "nothing is acknowledged");
        assert!(!settled.heard(7, 4, 3));
        assert!(!settled.heard(9, 6, 3), "what it had with 7 is waited for first");
        assert_eq!(settled.rev(), 0);
        assert!(settled.heard(9, 6, 4));
        assert_eq!(settled.rev(), 7);
        assert!(settled.heard(9, 7, 6), "what came after does not matter");
        assert_eq!(settled.rev(), 9);
        assert!(settled.heard(11, 7, u64::MAX), "who writes nothing is not waited for");
        assert_eq!(settled.rev(), 11);
        assert!(!settled.heard(11, 8, u64::MAX));
    }
}
