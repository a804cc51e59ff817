//! `check`, `compact`, `rebuild`: on a closed database, or on a server where it can do them.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use trellis::{CheckOptions, Config, RepairReport, Runtime};
use trellis_client::{Admin, ClientOptions};

use crate::cli::failure::Failure;
use crate::cli::output::print_line;
use crate::cli::place::{Database, Place, builder};
use crate::cli::progress::Progress;

/// The settings of a closed database: what is not said about its engines, its directory knows.
pub(super) fn config_of(database: &Database) -> Result<Config, Failure> {
    Ok(builder(database).load()?.with_engines_of_data()?)
}

/// Blocking work, off the executor.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> trellis::Result<T> + Send + 'static,
) -> trellis::Result<T> {
    Runtime::system().run(work).await
}

/// Checks, and repairs if asked to. Damage is [`Failure::Damaged`]; whatever keeps it from checking
/// is [`Failure::Unchecked`].
pub(super) async fn check(repair: bool, json: bool, place: &Place) -> Result<(), Failure> {
    let unchecked = |failure: Failure| Failure::Unchecked(failure.to_string());
    if repair && !place.is_local() {
        return Err(Failure::Usage(
            "a repair needs the database to itself: stop the server, and name the directory with \
             --data"
                .to_owned(),
        ));
    }
    let progress = Progress::begin("checked", None);
    let found = if repair {
        let config = config_of(&place.database).map_err(unchecked)?;
        let repaired = blocking(move || trellis::repair(&config, &CheckOptions::default())).await;
        let repaired = repaired.map_err(|error| unchecked(error.into()))?;
        progress.clear();
        if !json {
            tell_repairs(&repaired);
        }
        value_of(&repaired)?
    } else if place.is_local() {
        let config = config_of(&place.database).map_err(unchecked)?;
        let report = blocking(move || trellis::check(&config, &CheckOptions::default())).await;
        value_of(&report.map_err(|error| unchecked(error.into()))?)?
    } else {
        let report = async { Ok::<_, Failure>(admin(place)?.check().await?) };
        report.await.map_err(unchecked)?
    };
    progress.clear();
    if json {
        print_line(&found.to_string())?;
    }
    let report = found.get("report").unwrap_or(&found);
    let findings = report.get("findings").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let more = number(report, "more_findings");
    if !json {
        print_line(describe(report).trim_end())?;
    }
    let helps = !repair && (more > 0 || is_repairable(report));
    match findings + more {
        0 => Ok(()),
        count => Err(Failure::Damaged(match helps {
            true => format!("{count} findings; `trellis check --repair` repairs what it can"),
            false => format!("{count} findings that a repair cannot help; rebuild or restore"),
        })),
    }
}

/// Whether a repair can do anything about one of the findings.
fn is_repairable(report: &Value) -> bool {
    let findings = report.get("findings").and_then(Value::as_array).into_iter().flatten();
    findings.filter_map(|finding| finding.get("remedy")).any(|remedy| remedy != "restore")
}

fn tell_repairs(repaired: &RepairReport) {
    for repair in &repaired.repairs {
        let what = match repair.remedy {
            trellis::Remedy::Journal => "written again from the journal",
            trellis::Remedy::Derive => "derived again",
            trellis::Remedy::Remove => "REMOVED; what it held is lost to the tree",
            trellis::Remedy::Restore => "left",
        };
        eprintln!("{}: {what}", repair.place);
    }
    if let Some(kept) = &repaired.kept {
        eprintln!("copies of what was removed are in {}", kept.display());
    }
}

fn value_of(report: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(report).map_err(|error| Failure::failed(error.to_string()))
}

fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The report for people.
fn describe(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to memory does not fail.
        let _infallible = writeln!(text, "{line}");
    };
    for finding in report.get("findings").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, place, detail) = (part("kind"), part("place"), part("detail"));
        line(format!("{kind}: {place}: {detail} [{}]", part("remedy")));
    }
    let more = number(report, "more_findings");
    if more > 0 {
        line(format!("and {more} more"));
    }
    for skipped in report.get("skipped").and_then(Value::as_array).into_iter().flatten() {
        line(format!("not checked: {}", skipped.as_str().unwrap_or_default()));
    }
    let figures = ["leaves", "endings", "keys", "index_entries", "records", "compared"];
    let figures =
        figures.map(|name| format!("{} {}", number(report, name), name.replace('_', " ")));
    line(figures.join(", "));
    line(format!(
        "store: {} bytes on disk, {} of them live; applied up to rev {}",
        number(report, "disk_bytes"),
        number(report, "live_bytes"),
        number(report, "applied_rev")
    ));
    let clean = report.get("findings").and_then(Value::as_array).is_some_and(Vec::is_empty);
    line(if clean { "nothing is wrong" } else { "damaged" }.to_owned());
    text
}

/// The operators' side of the server of a place.
pub(super) fn admin(place: &Place) -> Result<Admin, Failure> {
    Ok(Admin::new(&place.url()?, ClientOptions::default())?)
}

/// Makes the files smaller.
pub(super) async fn compact(place: &Place) -> Result<(), Failure> {
    let progress = Progress::begin("compacted", None);
    let compacted = if place.is_local() {
        let config = config_of(&place.database)?;
        value_of(&blocking(move || trellis::compact(&config)).await?)?
    } else {
        admin(place)?.compact().await?
    };
    progress.clear();
    let pair = |name: &str| {
        let pair = compacted.get(name).and_then(Value::as_array);
        let side = |index: usize| pair.and_then(|pair| pair.get(index)).and_then(Value::as_u64);
        (side(0).unwrap_or(0), side(1).unwrap_or(0))
    };
    let (store, journal) = (pair("store_bytes"), pair("journal_first_rev"));
    print_line(&format!("store: {} bytes before, {} after", store.0, store.1))?;
    print_line(&format!("journal: began at rev {}, begins at rev {}", journal.0, journal.1))?;
    if let Some(why) = compacted.get("postponed").and_then(Value::as_str) {
        print_line(&format!("the store's files were left as they are: {why}"))?;
    }
    Ok(())
}

/// Makes the store anew from its journal.
pub(super) async fn rebuild(database: &Database) -> Result<(), Failure> {
    let config = config_of(database)?;
    let progress = Progress::begin("rebuilt", None);
    let rebuilt = blocking(move || trellis::rebuild(&config)).await;
    progress.clear();
    let rebuilt = rebuilt?;
    print_line(&format!("rebuilt up to rev {}, digest {}", rebuilt.rev, rebuilt.digest))?;
    for old in &rebuilt.put_aside {
        print_line(&format!("the old store is {}", old.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_repairable;

    #[test]
    fn a_repair_is_named_only_where_it_helps() {
        assert!(!is_repairable(&json!({ "findings": [{ "remedy": "restore" }] })));
        let one = json!({ "findings": [{ "remedy": "restore" }, { "remedy": "journal" }] });
        assert!(is_repairable(&one));
    }
}
