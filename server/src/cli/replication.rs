//! `repl status`, `slots`, `drop-slot`, `resync`, `verify`, `repair`: asked of a running server.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use trellis_client::Admin;

use super::arguments::Place;
use super::failure::Failure;
use super::upkeep::admin;
use super::verbs::print_line;

/// How often the outcome of a comparison is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// See where replication stands, and act on its slots and feeds
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis repl status                      role, zones, links, feeds, lag, slots
  trellis repl verify --link upstream      compare with the source, and change nothing
  trellis repl repair --link upstream      the same, and make what differs as it is there
  trellis repl drop-slot 5f0c-upstream     stop keeping journal for a follower that is gone

verify and repair exit with 0 when nothing differs, 1 when something does (after a repair: still),
2 when it could not be compared.")]
pub(super) struct Repl {
    #[command(subcommand)]
    pub(super) verb: ReplVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ReplVerb {
    /// Print where replication stands
    Status {
        /// Print the status as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print the followers, and what is kept for them
    Slots {
        /// Print one JSON line each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Forget a follower: no journal is kept for it any more
    DropSlot {
        /// Its name, as `slots` prints it
        consumer: String,
        #[command(flatten)]
        place: Place,
    },
    /// Fill what is followed over a link anew
    Resync {
        /// The link, as `status` prints it
        link: String,
        #[command(flatten)]
        place: Place,
    },
    /// Compare what is followed with its source, and change nothing
    Verify(Compare),
    /// Compare, and make what differs as it is at the source
    Repair(Compare),
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// One link only, as `status` prints it
    #[arg(long)]
    link: Option<String>,
    /// Seconds to wait for the comparison, which needs a moment without writes
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs one of the verbs.
pub(super) async fn run(repl: Repl) -> Result<(), Failure> {
    match repl.verb {
        ReplVerb::Status { json, place } => {
            let status = server(&place)?.replication().await?;
            print_line(&if json { status.to_string() } else { describe(&status) })
        }
        ReplVerb::Slots { json, place } => {
            let status = server(&place)?.replication().await?;
            if !json {
                return print_line(describe_slots(&status).trim_end());
            }
            list(&status, "slots").iter().try_for_each(|slot| print_line(&slot.to_string()))
        }
        ReplVerb::DropSlot { consumer, place } => {
            server(&place)?.drop_slot(&consumer).await?;
            print_line(&format!("dropped {consumer}"))
        }
        ReplVerb::Resync { link, place } => {
            server(&place)?.resync(&link).await?;
            print_line(&format!("{link} is being filled anew; see `trellis repl status`"))
        }
        ReplVerb::Verify(compare) => verify(compare, false).await,
        ReplVerb::Repair(compare) => verify(compare, true).await,
    }
}

fn server(place: &Place) -> Result<Admin, Failure> {
    if place.is_local() {
        let message = "replication is asked of a running server: name it with --url";
        return Err(Failure::Usage(message.to_owned()));
    }
    Ok(admin(place)?)
}

async fn verify(compare: Compare, repairs: bool) -> Result<(), Failure> {
    let found = compared(&compare, repairs).await;
    let found = found.map_err(|failure| Failure::Unchecked(failure.to_string()))?;
    let mut differing = 0;
    for outcome in &found {
        differing += outcome.differing;
        let Outcome { link, differing, repaired } = outcome;
        print_line(&if compare.json {
            serde_json::json!({ "link": link, "differing": differing, "repaired": repaired })
                .to_string()
        } else if repairs {
            format!("{link}: {repaired} commits of repair; {differing} leaves differ now")
        } else {
            format!("{link}: {differing} leaves differ")
        })?;
    }
    match (differing, repairs) {
        (0, _) => Ok(()),
        (count, false) => {
            let remedy = "`trellis repl repair` makes them as they are at the source";
            Err(Failure::Damaged(format!("{count} leaves differ; {remedy}")))
        }
        (count, true) => {
            let remedy = "what only this node has is for its source to fetch";
            Err(Failure::Damaged(format!("{count} leaves differ still; {remedy}")))
        }
    }
}

/// What a comparison came to.
struct Outcome {
    link: String,
    differing: u64,
    repaired: u64,
}

async fn compared(compare: &Compare, repairs: bool) -> Result<Vec<Outcome>, Failure> {
    let server = server(&compare.place)?;
    let before = feeds(&server.replication().await?, compare.link.as_deref());
    if before.is_empty() {
        return Err(Failure::failed("nothing is followed over such a link; see `repl status`"));
    }
    let link = compare.link.as_deref();
    if repairs {
        server.repair_replication(link).await?;
    } else {
        server.verify_replication(link).await?;
    }
    let waited = tokio::time::timeout(Duration::from_secs(compare.wait), async {
        loop {
            let after = feeds(&server.replication().await?, compare.link.as_deref());
            if let Some(found) = outcome(&before, &after)? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited.await.unwrap_or_else(|_elapsed| {
        let message = "no comparison in time; one needs both nodes level and a quiet moment";
        Err(Failure::failed(message))
    })
}

/// The links that this node made and follows something over.
fn feeds(status: &Value, wanted: Option<&str>) -> Vec<Value> {
    let fits = |link: &&Value| {
        let named = wanted.is_none_or(|wanted| text(link, "id") == wanted);
        named && link["dialed"] == true && link["pull"].is_object()
    };
    list(status, "links").iter().filter(fits).cloned().collect()
}

/// `None` while a comparison is under way.
fn outcome(before: &[Value], after: &[Value]) -> Result<Option<Vec<Outcome>>, Failure> {
    let mut found = Vec::new();
    for before in before {
        let link = text(before, "id");
        let after = after.iter().find(|after| text(after, "id") == link);
        // What was asked for is lost with the connection.
        let Some(after) = after.filter(|after| after["attempts"] == before["attempts"]) else {
            let message = format!("the link {link} was lost meanwhile; try again");
            return Err(Failure::failed(message));
        };
        let more = |name: &str| {
            let figure = |link: &Value| number(&link["pull"], name);
            figure(after).saturating_sub(figure(before))
        };
        if more("answered") == 0 {
            return Ok(None);
        }
        let (link, differing) = (link.to_owned(), number(&after["pull"], "differing"));
        found.push(Outcome { link, differing, repaired: more("repaired") });
    }
    Ok(Some(found))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
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
fn describe(status: &Value) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _infallible = write_status(status, &mut out);
    out + describe_slots(status).trim_end()
}

fn write_status(status: &Value, out: &mut String) -> std::fmt::Result {
    let (name, role, node) = (text(status, "name"), text(status, "role"), text(status, "node"));
    writeln!(out, "node   {name} ({node}), role {role}, head {}", number(status, "head"))?;
    let not_ready = list(status, "notReady");
    writeln!(out, "ready  {}", if not_ready.is_empty() { "yes" } else { "no" })?;
    for prefix in not_ready {
        writeln!(out, "  {}: {}", path(prefix), text(prefix, "reason"))?;
    }
    writeln!(out, "zones")?;
    for zone in list(status, "zones") {
        let link = zone["link"].as_str().map(|link| format!("  {link}")).unwrap_or_default();
        writeln!(out, "  {:<32} {:<10}{link}", path(zone), text(zone, "mode"))?;
    }
    writeln!(out, "links")?;
    for link in list(status, "links") {
        write_link(link, out)?;
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

fn describe_slots(status: &Value) -> String {
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

    fn link(attempts: u64, answered: u64, differing: u64) -> Value {
        let pull = json!({ "answered": answered, "differing": differing, "repaired": 0 });
        json!({ "id": "upstream", "dialed": true, "attempts": attempts, "pull": pull })
    }

    #[test]
    fn a_comparison_ends_with_a_newer_one_and_not_with_another_connection() {
        let before = [link(1, 3, 0)];
        assert!(outcome(&before, &[link(1, 3, 2)]).expect("no failure").is_none());
        let found = outcome(&before, &[link(1, 4, 2)]).expect("no failure").expect("an outcome");
        assert_eq!(found.first().map(|found| (found.differing, found.repaired)), Some((2, 0)));
        assert!(outcome(&before, &[link(2, 4, 0)]).is_err(), "it is lost with its connection");
    }

    #[test]
    fn a_slot_tells_why_it_ended_and_a_link_why_it_is_down() {
        let slot = json!({ "consumer": "c", "owner": "edge", "rev": 7, "invalid": "idle",
            "lagSeconds": 1.25 });
        let mut broken = link(4, 0, 0);
        broken["state"] = json!("connecting");
        broken["lastError"] = json!("refused");
        let status = json!({ "slots": [slot], "links": [broken] });
        let text = describe(&status);
        assert!(text.contains("c (edge): ended: idle, at 7, 0 behind (1.2 s)"), "{text}");
        assert!(text.contains("last error: refused"), "{text}");
    }
}
