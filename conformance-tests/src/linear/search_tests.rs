//! Histories made by hand: some that are linearizable, some that are not.

use super::history::{Answer, Call};
use super::search::{Operation, check};
use super::spec::{List, ListCall, Register};

type Asked = Operation<Call, Answer>;

fn op(client: usize, times: (usize, usize), call: Call, answer: Answer) -> Asked {
    let (invoked, returned) = times;
    Operation { client, call, answer: Some(answer), invoked, returned: Some(returned) }
}

fn set(client: usize, times: (usize, usize), value: u64) -> Asked {
    op(client, times, Call::Set(value), Answer::Done)
}

fn get(client: usize, times: (usize, usize), value: u64) -> Asked {
    op(client, times, Call::Get, Answer::Value(value))
}

fn unanswered(client: usize, invoked: usize, call: Call) -> Asked {
    Operation { client, call, answer: None, invoked, returned: None }
}

#[track_caller]
fn good(asked: &[Asked]) {
    check(&Register, asked).unwrap();
}

#[track_caller]
fn bad(asked: &[Asked]) -> String {
    check(&Register, asked).unwrap_err().to_string()
}

#[test]
fn nothing_and_one_after_the_other_are_linearizable() {
    good(&[]);
    good(&[get(0, (0, 1), 0), set(0, (2, 3), 5), get(1, (4, 5), 5)]);
}

#[test]
fn a_read_beside_a_write_may_see_either() {
    for seen in [0, 5] {
        good(&[set(0, (0, 10), 5), get(1, (2, 3), seen)]);
    }
}

#[test]
fn a_read_after_a_write_must_see_it() {
    let text = bad(&[set(0, (0, 1), 5), get(1, (2, 3), 0)]);
    assert!(text.contains("2..3 client 1: get -> Value(0)"), "{text}");
}

#[test]
fn once_seen_is_seen_by_all_who_ask_later() {
    good(&[set(0, (0, 20), 5), get(1, (1, 2), 0), get(2, (3, 4), 5), get(1, (5, 6), 5)]);
    bad(&[set(0, (0, 20), 5), get(1, (1, 2), 5), get(2, (3, 4), 0)]);
}

#[test]
fn two_readers_must_agree_on_the_order_of_two_writes() {
    let writes = [set(0, (0, 10), 1), set(1, (0, 10), 2)];
    let reads = |first: [u64; 2], second: [u64; 2]| {
        let mut all = writes.to_vec();
        for (client, seen) in [(2, first), (3, second)] {
            all.push(get(client, (11, 12), seen[0]));
            all.push(get(client, (13, 14), seen[1]));
        }
        all
    };
    good(&reads([1, 1], [1, 1]));
    good(&reads([2, 2], [2, 2]));
    bad(&reads([1, 1], [2, 2]));
    bad(&reads([1, 2], [1, 2]));
}

#[test]
fn of_two_who_compare_and_set_from_the_same_value_one_wins() {
    let cas = |client, old, new, answer| op(client, (0, 9), Call::CompareAndSet(old, new), answer);
    good(&[cas(0, 0, 1, Answer::Done), cas(1, 0, 2, Answer::Refused(1))]);
    bad(&[cas(0, 0, 1, Answer::Done), cas(1, 0, 2, Answer::Done)]);
    // What is shown in a refusal was there at that time.
    bad(&[cas(0, 0, 1, Answer::Done), cas(1, 0, 2, Answer::Refused(7))]);
    bad(&[cas(0, 0, 1, Answer::Refused(0))]);
}

#[test]
fn what_was_not_answered_may_have_happened_late_or_never() {
    let lost = unanswered(0, 0, Call::Set(5));
    good(&[lost.clone(), get(1, (1, 2), 0), get(1, (3, 4), 5)]);
    good(&[lost.clone(), get(1, (1, 2), 0), get(1, (3, 4), 0)]);
    bad(&[lost, get(1, (1, 2), 5), get(1, (3, 4), 0)]);
    // Nor can it happen before it was asked.
    bad(&[get(1, (1, 2), 5), unanswered(0, 3, Call::Set(5))]);
}

#[test]
fn the_search_goes_back_far_and_remembers() {
    // Many writes at once, of which only the last readers tell the order.
    let count = 14;
    let mut all: Vec<_> = (0..count).map(|n| set(n, (n, 1000 + n), n as u64 + 1)).collect();
    all.push(get(50, (2000, 2001), 3));
    good(&all);
    all.push(get(50, (2002, 2003), 4));
    bad(&all);
}

#[test]
fn the_report_leaves_out_what_does_not_matter() {
    let mut all = vec![set(0, (0, 1), 1)];
    all.extend((1..40).map(|n| get(1, (10 * n, 10 * n + 1), 1)));
    all.push(set(0, (500, 501), 2));
    all.push(get(2, (510, 511), 1));
    all.extend((60..90).map(|n| get(1, (10 * n, 10 * n + 1), 2)));
    let text = bad(&all);
    assert!(text.contains("the first 42 operations (3 of them matter)"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_list_has_its_items_in_the_order_of_pushes() {
    let spec = List { process: vec![0, 0, 1] };
    let list = |times: (usize, usize), call, answer: Option<Vec<usize>>| {
        let (invoked, returned) = times;
        Operation { client: 0, call, answer, invoked, returned: Some(returned) }
    };
    let push = |times, item| list(times, ListCall::Push(item), None);
    let look = |times, items: &[usize]| list(times, ListCall::List, Some(items.to_vec()));
    let clear = |times| list(times, ListCall::Clear, None);
    check(&spec, &[push((0, 1), 0), push((2, 3), 1), look((4, 5), &[0, 1])]).unwrap();
    check(&spec, &[push((0, 9), 0), push((0, 9), 1), look((4, 5), &[0])]).unwrap();
    let all = [push((0, 1), 0), clear((2, 3)), push((4, 5), 1), look((6, 7), &[1])];
    check(&spec, &all).unwrap();
    check(&spec, &[push((0, 1), 0), look((4, 5), &[])]).unwrap_err();
    check(&spec, &[push((0, 1), 0), clear((2, 3)), look((4, 5), &[0])]).unwrap_err();
    // A later push of the same process has the greater id; one of another process need not.
    check(&spec, &[push((0, 1), 1), push((2, 3), 0)]).unwrap_err();
    check(&spec, &[push((0, 1), 2), push((2, 3), 1)]).unwrap();
}
