//! Which history a rev belongs to: tokens that clients keep, and whether they still hold.
//!
//! A rev alone says little: after loss of power with an interval of durability the same numbers are
//! given anew, and a copy counts on by itself. So each opening of the tree has an epoch, and its
//! note in the journal's stream `openings` says at which rev it began: what an earlier epoch
//! committed beyond that was lost.

use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::tree::Tree;

impl Tree {
    /// Names this history and this opening of it: `<16 hexadecimal digits>.<epoch>`. Whoever keeps
    /// a rev to go on from later keeps this with it, and asks [`Tree::knows`] then.
    #[must_use]
    pub fn epoch_token(&self) -> String {
        let core = self.core();
        format!("{:016x}.{}", short_id(core), core.epoch)
    }

    /// Whether a rev that was seen under a token lies in this very history: not when it is of
    /// another database or a copy, has not happened yet, was lost with the power, or is of an
    /// epoch so old that its end is no longer known (some hundred openings). Any text may be given.
    #[must_use]
    pub fn knows(&self, epoch_token: &str, rev: u64) -> bool {
        let core = self.core();
        let Some((id, epoch)) = epoch_token.split_once('.') else { return false };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (true, Ok(epoch)) = (digits(epoch), epoch.parse::<u64>()) else { return false };
        if id != format!("{:016x}", short_id(core)) {
            return false;
        }
        rev <= core.visible.load(Ordering::Acquire) && core.reached(epoch, rev)
    }
}

impl Core {
    /// Whether a rev of an epoch was still there at every opening since.
    fn reached(&self, epoch: u64, rev: u64) -> bool {
        if epoch >= self.epoch {
            return epoch == self.epoch;
        }
        let later = self.epochs.iter().filter(|start| start.epoch > epoch);
        let mut first = u64::MAX;
        let held = later.fold(true, |held, start| {
            first = first.min(start.epoch);
            held && start.rev.is_some_and(|begun| rev <= begun)
        });
        // The note of the opening that ended this epoch has to be among them.
        held && first == epoch + 1
    }
}

fn short_id(core: &Core) -> u64 {
    u64::try_from(core.log_id >> 64).unwrap_or_default()
}
