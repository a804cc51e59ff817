//! Where replication stands, as text for people, from its JSON.

use std::fmt::Write as _;

use serde_json::Value;

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "never level".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn path(value: &Value) -> &str {
    match text(value, "path") {
        "" => "/",
        path => path,
    }
}

/// The status for people.
pub(super) fn describe(status: &Value) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _infallible = write_status(status, &mut out);
    out + describe_slots(status).trim_end()
}

fn write_status(status: &Value, out: &mut String) -> std::fmt::Result {
    let (name, role, node) = (text(status, "name"), text(status, "role"), text(status, "node"));
    writeln!(out, "node   {name} ({node}), role {role}, head {}", number(status, "head"))?;
    let closed = status["closed"] == true;
    if closed {
        writeln!(out, "closed: what it wrote down last")?;
    } else {
        let not_ready = list(status, "notReady");
        writeln!(out, "ready  {}", if not_ready.is_empty() { "yes" } else { "no" })?;
        for prefix in not_ready {
            writeln!(out, "  {}: {}", path(prefix), text(prefix, "reason"))?;
        }
    }
    writeln!(out, "zones")?;
    for zone in list(status, "zones") {
        let link = zone["link"].as_str().map(|link| format!("  {link}")).unwrap_or_default();
        writeln!(out, "  {:<32} {:<10}{link}", path(zone), text(zone, "mode"))?;
    }
    writeln!(out, "links")?;
    for link in list(status, "links") {
        if closed { write_closed_link(link, out) } else { write_link(link, out) }?;
        if link["resync"] == true {
            writeln!(out, "    is filled anew when it is next up")?;
        }
    }
    let asides = number(status, "setAsides");
    if asides > 0 {
        writeln!(out, "aside  {asides} copies of what was replaced: `trellis repl set-asides`")?;
    }
    if closed {
        return Ok(());
    }
    let [now, queued] = ["now", "queued"].map(|name| number(&status["fills"], name));
    writeln!(out, "fills  {now} followers are being filled, {queued} wait for that")?;
    let stats = &status["stats"];
    let figures = ["byRevEntries", "tombstones", "clears", "gcFloor"];
    let [entries, tombstones, clears, floor] = figures.map(|name| number(stats, name));
    writeln!(
        out,
        "kept   {entries} entries by rev, {tombstones} tombstones, {clears} clears; collected up \
         to {floor}"
    )
}

fn write_closed_link(link: &Value, out: &mut String) -> std::fmt::Result {
    let (id, pull) = (text(link, "id"), &link["pull"]);
    let address = match text(link, "address") {
        "" => "is not configured any more, or no configuration was named".to_owned(),
        address => format!("to {address}"),
    };
    writeln!(out, "  {id}: {address}")?;
    match pull["position"].as_u64() {
        _ if pull.is_null() => Ok(()),
        None => writeln!(out, "    pull: begins anew"),
        Some(rev) => {
            let what = if pull["filling"] == true { "being filled, from" } else { "came to" };
            writeln!(out, "    pull: {what} commit {rev} of {}", text(pull, "source"))
        }
    }
}

fn write_link(link: &Value, out: &mut String) -> std::fmt::Result {
    let direction = if link["dialed"] == true { "to" } else { "from" };
    let (id, state) = (text(link, "id"), text(link, "state"));
    let attempts = number(link, "attempts");
    writeln!(out, "  {id}: {state}, {direction} {}, attempts {attempts}", text(link, "address"))?;
    if let Some(error) = link["lastError"].as_str().filter(|_| state != "up") {
        writeln!(out, "    last error: {error}")?;
    }
    let pull = &link["pull"];
    if pull.is_object() {
        let [position, head, lag] = ["position", "head", "lagRecords"].map(|n| number(pull, n));
        writeln!(
            out,
            "    pull {}: {position} of {head}, {lag} behind, {}",
            text(pull, "state"),
            seconds(&pull["lagSeconds"])
        )?;
        let [lost, won, clipped] = ["lost", "won", "clipped"].map(|name| number(pull, name));
        let [verified, diverged] = ["verified", "diverged"].map(|name| number(pull, name));
        let [pages, commits] = ["pages", "commits"].map(|name| number(pull, name));
        writeln!(
            out,
            "      since the start: {pages} pages, {commits} commits; conflicts {lost} lost, {won} \
             won; clipped {clipped}; found alike {verified} times, {diverged} leaves differed"
        )?;
        if let Some(ahead) = pull["queuedBehind"].as_u64() {
            writeln!(out, "      waits to be filled, behind {ahead} others")?;
        }
        if let Some(why) = pull["paused"].as_str() {
            writeln!(out, "      paused: {why}")?;
        }
    }
    let push = &link["push"];
    if push.is_object() {
        let [sent, acknowledged] = ["sent", "acknowledged"].map(|name| number(push, name));
        let [pages, commits, bytes] = ["pages", "commits", "bytes"].map(|n| number(push, n));
        writeln!(
            out,
            "    push {}: sent {sent}, acknowledged {acknowledged}; since the start: {pages} \
             pages, {commits} commits, {bytes} bytes",
            text(push, "state")
        )?;
    }
    Ok(())
}

/// What was set aside, for people.
pub(super) fn describe_set_asides(asides: &[Value]) -> String {
    if asides.is_empty() {
        return "nothing was set aside".to_owned();
    }
    let mut out = String::new();
    for aside in asides {
        let (name, leaves) = (text(aside, "name"), number(aside, "leaves"));
        // Writing to memory does not fail.
        let _infallible = writeln!(out, "{name}  {leaves} leaves, at _repl/set_aside/{name}");
    }
    out
}

/// The followers for people.
pub(super) fn describe_slots(status: &Value) -> String {
    let mut out = "slots\n".to_owned();
    for slot in list(status, "slots") {
        let state = match (slot["invalid"].as_str(), slot["active"].as_bool()) {
            (Some(why), _) => format!("ended: {why}"),
            (None, Some(true)) => "active".to_owned(),
            (None, _) => format!("away for {}", seconds(&slot["idleSeconds"])),
        };
        let age = match slot["lagSeconds"].as_f64() {
            Some(seconds) => format!("{seconds:.1} s"),
            None => "unknown age".to_owned(),
        };
        let [rev, lag, bytes] = ["rev", "lagRecords", "lagBytes"].map(|name| number(slot, name));
        // Writing to memory does not fail.
        let _infallible = writeln!(
            out,
            "  {} ({}): {state}, at {rev}, {lag} behind ({age}), {bytes} bytes kept",
            text(slot, "consumer"),
            text(slot, "owner")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_slot_tells_why_it_ended_and_a_link_why_it_is_down() {
        let slot = json!({ "consumer": "c", "owner": "edge", "rev": 7, "invalid": "idle",
            "lagSeconds": 1.25 });
        let broken = json!({ "id": "upstream", "dialed": true, "attempts": 4, "resync": true,
            "state": "connecting", "lastError": "refused" });
        let status = json!({ "slots": [slot], "links": [broken] });
        let text = describe(&status);
        assert!(text.contains("c (edge): ended: idle, at 7, 0 behind (1.2 s)"), "{text}");
        assert!(text.contains("last error: refused"), "{text}");
        assert!(text.contains("is filled anew when it is next up"), "{text}");
    }
}
