//! Places: how many followers are filled at once, and who is next.
//!
//! Whoever waits keeps its turn for as long as its link is up. It costs nothing but its name: pages
//! are read, and journal held, for those that have a place.

use std::collections::{BTreeSet, VecDeque};

/// Followers that are filled, and those that wait for that, by their slots.
#[derive(Debug, Default)]
pub(crate) struct Places {
    filling: BTreeSet<String>,
    waiting: VecDeque<String>,
}

impl Places {
    /// Takes a place, or one in the queue: how many are before it there.
    pub(crate) fn enter(&mut self, consumer: &str, places: usize) -> Result<(), usize> {
        if self.filling.contains(consumer) {
            return Ok(());
        }
        let known = self.waiting.iter().position(|one| one == consumer);
        let ahead = known.unwrap_or_else(|| {
            self.waiting.push_back(consumer.to_owned());
            self.waiting.len() - 1
        });
        // Each of those that are before it has a claim, although it has not asked again yet.
        if ahead >= places.max(1).saturating_sub(self.filling.len()) {
            return Err(ahead);
        }
        self.waiting.retain(|one| one != consumer);
        self.filling.insert(consumer.to_owned());
        Ok(())
    }

    /// It is filled, or gone.
    pub(crate) fn leave(&mut self, consumer: &str) {
        self.filling.remove(consumer);
        self.waiting.retain(|one| one != consumer);
    }

    /// How many are filled, and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.filling.len(), self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_first_is_filled_first_and_who_leaves_makes_room() {
        let mut places = Places::default();
        assert_eq!((places.enter("a", 2), places.enter("b", 2)), (Ok(()), Ok(())));
        assert_eq!((places.enter("c", 2), places.enter("d", 2)), (Err(0), Err(1)));
        assert_eq!((places.enter("a", 2), places.enter("d", 2)), (Ok(()), Err(1)), "again");
        places.leave("b");
        assert_eq!(places.enter("d", 2), Err(1), "not before the one that came before");
        assert_eq!((places.enter("c", 2), places.enter("d", 2)), (Ok(()), Err(0)));
        assert_eq!(places.counts(), (2, 1));
        places.leave("a");
        assert_eq!(places.enter("d", 2), Ok(()));
    }

    #[test]
    fn who_waited_and_is_gone_is_not_waited_for() {
        let mut places = Places::default();
        assert_eq!((places.enter("a", 0), places.enter("b", 0)), (Ok(()), Err(0)), "one at least");
        assert_eq!(places.enter("c", 1), Err(1));
        places.leave("b");
        assert_eq!(places.enter("c", 1), Err(0));
        places.leave("a");
        assert_eq!(places.enter("c", 1), Ok(()));
        places.leave("c");
        assert_eq!(places.counts(), (0, 0));
    }
}
