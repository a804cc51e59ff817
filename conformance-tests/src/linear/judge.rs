//! From a history of many places to the objects that are searched one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Answer, Call, Event};
use super::search::{Operation, check};
use super::spec::{List, ListCall, Register};

/// What was asked of one place and what came of it.
type Asked = Operation<Call, Answer>;

/// Demands that each place of a history was one object.
///
/// # Errors
/// The places that were not, and why.
pub(crate) fn judge(events: &[Event]) -> Result<(), String> {
    let mut wrong = Vec::new();
    let (places, restarts) = by_place(events);
    for (place, asked) in places {
        let lists =
            asked.iter().any(|one| matches!(one.call, Call::Push(_) | Call::List | Call::Clear));
        let judged = if lists {
            list(&asked, &restarts)
        } else {
            check(&Register, &asked).map_err(|offence| offence.to_string())
        };
        if let Err(offence) = judged {
            wrong.push(format!("place {place}: {offence}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The operations on each place, with the places of their events as times; and when the process
/// was another one.
fn by_place(events: &[Event]) -> (BTreeMap<usize, Vec<Asked>>, Vec<usize>) {
    let mut open: HashMap<u64, (usize, Asked)> = HashMap::new();
    let mut places: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
    let mut restarts = Vec::new();
    for (time, event) in events.iter().enumerate() {
        match event {
            Event::Invoked { id, client, place, call } => {
                let (client, call) = (*client, call.clone());
                let asked = Operation { client, call, answer: None, invoked: time, returned: None };
                open.insert(*id, (*place, asked));
            }
            Event::Returned { id, answer } => {
                let (place, mut asked) = open.remove(id).expect("it was asked");
                asked.answer = Some(answer.clone());
                asked.returned = Some(time);
                places.entry(place).or_default().push(asked);
            }
            Event::Dropped { id } => drop(open.remove(id)),
            Event::Restarted => restarts.push(time),
        }
    }
    for (place, asked) in open.into_values() {
        // A look that was not answered saw nothing.
        if !matches!(asked.call, Call::Get | Call::List) {
            places.entry(place).or_default().push(asked);
        }
    }
    for asked in places.values_mut() {
        asked.sort_by_key(|one| one.invoked);
    }
    (places, restarts)
}

/// Numbers the ids of a list in their order, and has it searched.
fn list(asked: &[Asked], restarts: &[usize]) -> Result<(), String> {
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    let mut pushed: HashMap<u64, &str> = HashMap::new();
    for one in asked {
        match (&one.call, &one.answer) {
            (Call::Push(value), Some(Answer::Pushed(id))) => note(&mut values, id, *value)?,
            (_, Some(Answer::Items(items))) => {
                items.iter().try_for_each(|(id, value)| note(&mut values, id, *value))?;
            }
            _ => {}
        }
    }
    for (id, value) in &values {
        if let Some(other) = pushed.insert(*value, id) {
            return Err(format!("{value} was pushed once and is there as {other} and {id}"));
        }
    }
    let numbers: HashMap<&str, usize> =
        values.keys().enumerate().map(|(number, id)| (*id, number)).collect();
    let mut process = vec![0; numbers.len()];
    let mut known = BTreeSet::new();
    let mut operations = Vec::new();
    for one in asked {
        let call = match &one.call {
            Call::Push(value) => {
                // Not answered and never seen: it may as well not have happened.
                let Some(item) = pushed.get(value).map(|id| numbers[id]) else { continue };
                process[item] = restarts.partition_point(|restart| *restart < one.invoked);
                known.insert(item);
                ListCall::Push(item)
            }
            Call::Clear => ListCall::Clear,
            _ => ListCall::List,
        };
        let answer = match &one.answer {
            Some(Answer::Items(items)) => {
                Some(items.iter().map(|(id, _)| numbers[id.as_str()]).collect::<Vec<_>>())
            }
            _ => None,
        };
        let Operation { client, invoked, returned, .. } = *one;
        operations.push(Operation { client, call, answer, invoked, returned });
    }
    if known.len() < numbers.len() {
        return Err("the list shows something that nobody pushed".to_owned());
    }
    check(&List { process }, &operations).map_err(|offence| offence.to_string())
}

/// Notes that an id has a value; it always has the same.
fn note<'a>(values: &mut BTreeMap<&'a str, u64>, id: &'a str, value: u64) -> Result<(), String> {
    match values.insert(id, value) {
        Some(other) if other != value => Err(format!("{id} is {other} and {value}")),
        _ => Ok(()),
    }
}
