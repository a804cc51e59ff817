//! The verbs on single values.

use std::io::Read;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::arguments::Command;
use crate::cli::failure::Failure;
use crate::cli::output::print_line;
use crate::cli::place::{Format, Place};
use crate::cli::target::{Entry, Target};
use crate::cli::{copies, export, import, indexes, live, replication, upkeep};

/// Children that are asked for at once.
const PAGE: usize = 1_000;

/// Runs every verb but `serve` and `completion`.
pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Get { path, place } => export::print(&path, &place).await,
        Command::Set { path, value, ttl, place } => {
            let value = json_of(&value)?;
            let target = Target::open(&place).await?;
            target.set(&path, &value, ttl).await?;
            target.close().await
        }
        Command::Update { updates, place } => update(&updates, &place).await,
        Command::Delete { path, place } => {
            let target = Target::open_existing(&place).await?;
            target.delete(&path).await?;
            target.close().await
        }
        Command::Push { path, value, ttl, place } => {
            let value = json_of(&value)?;
            let target = Target::open(&place).await?;
            let id = target.push(&path, &value, ttl).await?;
            print_line(&id)?;
            target.close().await
        }
        Command::Children { path, after, limit, values, place } => {
            children(&path, after, limit, values, &place).await
        }
        Command::Query(query) => live::query(query).await,
        Command::Watch(watch) => live::watch(watch).await,
        Command::Import { file, path, format, place } => {
            let format = Format::of(format, Some(&file));
            import::run(&file, &path, format, &place).await
        }
        Command::Export { path, format, output, place } => {
            let format = Format::of(format, output.as_deref());
            export::run(&path, format, output.as_deref(), &place).await
        }
        Command::Backup(backup) => copies::backup(backup).await,
        Command::Restore(restore) => copies::restore(restore).await,
        Command::Migrate(migrate) => copies::migrate(migrate).await,
        Command::Verify(verify) => copies::verify(verify).await,
        Command::Check(check) => upkeep::check(check.repair, check.json, &check.place).await,
        Command::Compact(compact) => upkeep::compact(&compact.place).await,
        Command::Rebuild(rebuild) => upkeep::rebuild(&rebuild.database).await,
        Command::Repl(repl) => replication::run(repl).await,
        Command::Index(index) => indexes::run(index).await,
        Command::Stats { place } => stats(&place).await,
        Command::Serve(_) | Command::Completion { .. } => Ok(()),
    }
}

async fn update(updates: &str, place: &Place) -> Result<(), Failure> {
    let text = json_of(updates)?;
    let mut entries = Vec::new();
    let updates: serde_json::Map<String, Value> =
        serde_json::from_str(text.get()).map_err(|error| {
            Failure::Usage(format!("an update is an object of path to value: {error}"))
        })?;
    for (path, value) in updates {
        let value = serde_json::value::to_raw_value(&value)
            .map_err(|error| Failure::failed(error.to_string()))?;
        entries.push(Entry { path, value });
    }
    let target = Target::open(place).await?;
    target.update(&entries).await?;
    target.close().await
}

async fn children(
    path: &str,
    mut after: Option<String>,
    limit: Option<usize>,
    values: bool,
    place: &Place,
) -> Result<(), Failure> {
    let target = Target::open_to_read(place).await?;
    let mut wanted = limit.unwrap_or(usize::MAX);
    while wanted > 0 {
        let page = target.children(path, after.as_deref(), wanted.min(PAGE), values).await?;
        let (items, next) = page;
        wanted = wanted.saturating_sub(items.len());
        for (key, value) in items {
            let mut line = serde_json::Map::new();
            line.insert("key".to_owned(), Value::String(key));
            if let Some(value) = value {
                line.insert("value".to_owned(), value);
            }
            print_line(&Value::Object(line).to_string())?;
        }
        if next.is_none() {
            break;
        }
        after = next;
    }
    target.close().await
}

async fn stats(place: &Place) -> Result<(), Failure> {
    let target = Target::open_to_read(place).await?;
    let stats = match &target {
        Target::Server(client) => client.stats().await?,
        Target::Local(db) => serde_json::to_value(db.tree().stats()?)
            .map_err(|error| Failure::failed(error.to_string()))?,
    };
    print_line(&format!("{stats:#}"))?;
    target.close().await
}

/// JSON from the command line, a file or standard input.
fn json_of(argument: &str) -> Result<Box<RawValue>, Failure> {
    let text = match (argument, argument.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::io("standard input", &error))?;
            text
        }
        (_, Some(file)) => {
            std::fs::read_to_string(file).map_err(|error| Failure::io(file, &error))?
        }
        (text, None) => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!(
            "the value is no JSON: {error}; a string is written '\"with quotes\"', a file @NAME"
        ))
    })
}
