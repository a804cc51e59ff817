//! `repl status`, `slots`, `set-asides`, `drop-slot`, `drop-set-aside`, `resync`: asked of a server
//! or done on a closed database; `verify`, `repair`: asked of a server only.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use trellis_client::Admin;

use crate::cli::failure::Failure;
use crate::cli::output::print_line;
use crate::cli::place::Place;
use crate::cli::replication_closed as closed;
use crate::cli::replication_text::{
    describe, describe_set_asides, describe_slots, list, number, text,
};
use crate::cli::upkeep::admin;

/// How often the outcome of a comparison is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// See where replication stands, and act on its slots and feeds
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis repl status                      role, zones, links, feeds, lag, slots
  trellis repl verify --link upstream      compare with the source, and change nothing
  trellis repl repair --link upstream      the same, and make what differs as it is there
  trellis repl drop-slot 5f0c-upstream     stop keeping journal for a follower that is gone
  trellis repl set-asides                  what this node wrote, set aside when it was replaced
  trellis repl resync upstream --data db --config edge.toml

With --data all but verify and repair work on a closed database; what changes it takes the node's
configuration too.

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
    /// Print what this node wrote that was set aside before it was replaced
    SetAsides {
        /// Print one JSON line each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Remove what was set aside
    DropSetAside {
        /// Its name, as `set-asides` prints it
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Fill what is followed over a link anew: at once, or when the link is next up
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
            let status = status(&place).await?;
            print_line(&if json { status.to_string() } else { describe(&status) })
        }
        ReplVerb::Slots { json, place } => {
            let status = status(&place).await?;
            if !json {
                return print_line(describe_slots(&status).trim_end());
            }
            list(&status, "slots").iter().try_for_each(|slot| print_line(&slot.to_string()))
        }
        ReplVerb::SetAsides { json, place } => {
            let found = match place.is_local() {
                true => closed::set_asides(&place).await?,
                false => admin(&place)?.set_asides().await?,
            };
            let found = found.as_array().map_or(&[][..], Vec::as_slice);
            if !json {
                return print_line(describe_set_asides(found).trim_end());
            }
            found.iter().try_for_each(|aside| print_line(&aside.to_string()))
        }
        ReplVerb::DropSetAside { name, place } => {
            match place.is_local() {
                true => closed::drop_set_aside(&place, &name).await?,
                false => drop(admin(&place)?.drop_set_aside(&name).await?),
            }
            print_line(&format!("dropped {name}"))
        }
        ReplVerb::DropSlot { consumer, place } => {
            match place.is_local() {
                true => closed::drop_slot(&place, &consumer).await?,
                false => drop(admin(&place)?.drop_slot(&consumer).await?),
            }
            print_line(&format!("dropped {consumer}"))
        }
        ReplVerb::Resync { link, place } => resync(&link, &place).await,
        ReplVerb::Verify(compare) => verify(compare, false).await,
        ReplVerb::Repair(compare) => verify(compare, true).await,
    }
}

async fn status(place: &Place) -> Result<Value, Failure> {
    match place.is_local() {
        true => closed::status(place).await,
        false => Ok(admin(place)?.replication().await?),
    }
}

async fn resync(link: &str, place: &Place) -> Result<(), Failure> {
    let remembered = match place.is_local() {
        true => closed::resync(place, link).await.map(|()| true)?,
        false => {
            let begun = admin(place)?.resync(link).await?;
            begun.get("remembered") == Some(&Value::Bool(true))
        }
    };
    print_line(&match remembered {
        true => format!("{link} will be filled anew when it is next up: that is remembered"),
        false => format!("{link} is being filled anew; see `trellis repl status`"),
    })
}

/// The server to ask for a comparison.
fn server(place: &Place) -> Result<Admin, Failure> {
    if place.is_local() {
        let message = "a comparison needs the node running and linked: start it with `trellis \
                       serve`, and name it with --url";
        return Err(Failure::failed(message));
    }
    admin(place)
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
}
