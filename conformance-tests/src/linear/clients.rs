//! Eight clients, each asking one thing after the other.

use std::sync::{Arc, PoisonError, RwLock};

use super::history::{Answer, Book, Call, Event};
use super::subject::{Done, OnTree};
use crate::{Rng, Seed};

/// Clients of a history.
pub(crate) const CLIENTS: usize = 8;
/// Operations of each, where nobody is killed.
pub(crate) const OPERATIONS: usize = 500;
/// Registers, the first places.
const REGISTERS: usize = 4;
/// Registers and lists.
pub(crate) const PLACES: usize = 6;
/// Room for the numbers of one client: operations and values are numbered alike.
const ROOM: u64 = 1_000_000;

/// The tree of the moment: exchanged when it is opened anew.
#[derive(Debug)]
pub(crate) struct Slot(RwLock<Arc<OnTree>>);

impl Slot {
    pub(crate) fn new(subject: OnTree) -> Self {
        Self(RwLock::new(Arc::new(subject)))
    }

    pub(crate) fn get(&self) -> Arc<OnTree> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn exchange(&self, subject: OnTree) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(subject);
    }
}

/// One client: where it writes down what it does, and what it is numbered by.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) book: &'a Book,
    pub(crate) slot: &'a Slot,
    pub(crate) index: usize,
    /// Which process of this history it works in.
    pub(crate) process: usize,
}

impl Client<'_> {
    /// What its operations and values are numbered from.
    fn first_number(&self) -> u64 {
        (self.process * CLIENTS * 2 + self.index + 1) as u64 * ROOM
    }

    /// Asks so many things; `now_and_then` is called after each of the answers.
    pub(crate) fn run(&self, seed: Seed, operations: usize, now_and_then: impl Fn(usize)) {
        let mut rng = seed.of(&format!("{}/{}", self.process, self.index)).rng();
        let mut seen = [0; REGISTERS];
        let mut number = self.first_number();
        let mut answered = 0;
        while answered < operations {
            number += 1;
            let place = rng.below(PLACES);
            // The tree is chosen before the operation begins: so it belongs to its process.
            let subject = self.slot.get();
            let drawn = if place < REGISTERS {
                draw_register(&mut rng, number, seen[place], || subject.peek(place))
            } else {
                Some((draw_list(&mut rng, number), None))
            };
            let Some((call, hash)) = drawn else { continue };
            let client = self.index;
            let event = Event::Invoked { id: number, client, place, call: call.clone() };
            self.book.add(event);
            match subject.perform(place, &call, hash.as_deref()) {
                Done::Answered(answer) => {
                    if let (Answer::Value(value) | Answer::Refused(value), true) =
                        (&answer, place < REGISTERS)
                    {
                        seen[place] = *value;
                    }
                    self.book.add(Event::Returned { id: number, answer });
                    answered += 1;
                    now_and_then(answered);
                }
                Done::Dropped => {
                    self.book.add(Event::Dropped { id: number });
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Reads every place once.
    pub(crate) fn look_at_all(&self) {
        for (place, number) in (0..PLACES).zip(self.first_number()..) {
            let call = if place < REGISTERS { Call::Get } else { Call::List };
            let (client, subject) = (self.index, self.slot.get());
            self.book.add(Event::Invoked { id: number, client, place, call: call.clone() });
            if let Done::Answered(answer) = subject.perform(place, &call, None) {
                self.book.add(Event::Returned { id: number, answer });
            }
        }
    }
}

/// A call, and the hash that a compare-and-set compares; none when `peek` cannot look.
fn draw_register(
    rng: &mut Rng,
    number: u64,
    seen: u64,
    peek: impl Fn() -> Option<(u64, Option<String>)>,
) -> Option<(Call, Option<String>)> {
    Some(match rng.below(20) {
        0..=7 => (Call::Get, None),
        8..=10 => (Call::Set(number), None),
        11 => (Call::Set(0), None),
        12 => (Call::CompareAndSet(0, number), None),
        13..=17 => (Call::CompareAndSet(seen, number), None),
        _ => {
            let (present, hash) = peek()?;
            (Call::CompareAndSet(present, number), hash)
        }
    })
}

fn draw_list(rng: &mut Rng, number: u64) -> Call {
    match rng.below(20) {
        0..=10 => Call::Push(number),
        11..=18 => Call::List,
        _ => Call::Clear,
    }
}
