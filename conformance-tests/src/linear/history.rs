//! Histories: what clients asked and what they were answered, in the order of real time.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// What is asked of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Reads a register.
    Get,
    /// Writes a register; 0 removes it.
    Set(u64),
    /// Writes a register if it has a value; 0 is none.
    CompareAndSet(u64, u64),
    /// Adds to a list.
    Push(u64),
    /// Reads a list.
    List,
    /// Empties a list.
    Clear,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The value of a register.
    Value(u64),
    /// The register has another value, this one.
    Refused(u64),
    /// Pushed under this id.
    Pushed(String),
    /// Ids and values of a list, in its order.
    Items(Vec<(String, u64)>),
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client begins to ask something of a place.
    Invoked { id: u64, client: usize, place: usize, call: Call },
    /// It was answered.
    Returned { id: u64, answer: Answer },
    /// It was refused without effect, as if it had never been asked.
    Dropped { id: u64 },
    /// A process that worked on the data began; the first one needs none.
    Restarted,
}

/// Where events are written, by many clients at once. The order of its lines is an order of real
/// time: a line is added before the call, another after the answer.
#[derive(Debug)]
pub(crate) enum Book {
    /// In memory.
    Memory(Mutex<Vec<Event>>),
    /// At the end of a file, each line one write: it survives a kill.
    File(Mutex<File>),
}

impl Book {
    pub(crate) fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(crate) fn add(&self, event: Event) {
        match self {
            Self::Memory(events) => {
                events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(format!("{event}\n").as_bytes()).expect("the history is written");
            }
        }
    }

    /// Everything that was added to a book in memory.
    pub(crate) fn into_events(self) -> Vec<Event> {
        match self {
            Self::Memory(events) => events.into_inner().unwrap_or_else(PoisonError::into_inner),
            Self::File(_) => Vec::new(),
        }
    }
}

/// Reads the text of a book in a file; a torn last line was not said.
pub(crate) fn parse(text: &str) -> Vec<Event> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| event(line).unwrap_or_else(|| panic!("no event: {line}"))).collect()
}

fn event(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    if kind == "restarted" {
        return Some(Event::Restarted);
    }
    let id = words.next()?.parse().ok()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(match kind {
        "ask" => {
            let (client, place) = (number()? as usize, number()? as usize);
            let call = match words.next()? {
                "get" => Call::Get,
                "set" => Call::Set(words.next()?.parse().ok()?),
                "cas" => {
                    let mut number = || words.next()?.parse::<u64>().ok();
                    Call::CompareAndSet(number()?, number()?)
                }
                "push" => Call::Push(words.next()?.parse().ok()?),
                "list" => Call::List,
                "clear" => Call::Clear,
                _ => return None,
            };
            Event::Invoked { id, client, place, call }
        }
        "done" => Event::Returned { id, answer: Answer::Done },
        "value" => Event::Returned { id, answer: Answer::Value(number()?) },
        "refused" => Event::Returned { id, answer: Answer::Refused(number()?) },
        "pushed" => Event::Returned { id, answer: Answer::Pushed(words.next()?.to_owned()) },
        "items" => {
            let item = |word: &str| {
                let (id, value) = word.split_once('=')?;
                Some((id.to_owned(), value.parse().ok()?))
            };
            let items = words.map(item).collect::<Option<_>>()?;
            Event::Returned { id, answer: Answer::Items(items) }
        }
        "dropped" => Event::Dropped { id },
        _ => return None,
    })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoked { id, client, place, call } => {
                write!(f, "ask {id} {client} {place} {call}")
            }
            Self::Dropped { id } => write!(f, "dropped {id}"),
            Self::Restarted => f.write_str("restarted"),
            Self::Returned { id, answer } => match answer {
                Answer::Done => write!(f, "done {id}"),
                Answer::Value(value) => write!(f, "value {id} {value}"),
                Answer::Refused(value) => write!(f, "refused {id} {value}"),
                Answer::Pushed(pushed) => write!(f, "pushed {id} {pushed}"),
                Answer::Items(items) => {
                    write!(f, "items {id}")?;
                    items.iter().try_for_each(|(id, value)| write!(f, " {id}={value}"))
                }
            },
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Set(value) => write!(f, "set {value}"),
            Self::CompareAndSet(old, new) => write!(f, "cas {old} {new}"),
            Self::Push(value) => write!(f, "push {value}"),
            Self::List => f.write_str("list"),
            Self::Clear => f.write_str("clear"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_reads_back() {
        let answers = [
            Answer::Done,
            Answer::Value(4),
            Answer::Refused(0),
            Answer::Pushed("-Nx_".into()),
            Answer::Items(Vec::new()),
            Answer::Items(vec![("-Nx".into(), 1), ("-Ny".into(), 2)]),
        ];
        let calls = [
            Call::Get,
            Call::Set(3),
            Call::CompareAndSet(0, 9),
            Call::Push(7),
            Call::List,
            Call::Clear,
        ];
        let mut events = vec![Event::Restarted, Event::Dropped { id: 5 }];
        events.extend(answers.map(|answer| Event::Returned { id: 6, answer }));
        events.extend(calls.map(|call| Event::Invoked { id: 7, client: 2, place: 1, call }));
        let text: String = events.iter().map(|event| format!("{event}\n")).collect();
        assert_eq!(parse(&text), events);
        assert_eq!(parse(&format!("{text}items 6 -N")), events, "a torn line was not said");
    }
}
