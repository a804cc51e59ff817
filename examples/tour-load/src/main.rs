//! Load and verification for `examples/tour.sh`.
//!
//! ```text
//! tour-load write URL SERVER-PID KILL-AFTER ACKNOWLEDGED-FILE [WAIT-FOR-FILE]
//! tour-load verify EXPORT.ndjson ACKNOWLEDGED-FILE PATH=SOURCE.json... PATH=SOURCE.ndjson...
//! tour-load lines SOURCE.json TABLE KEY
//! tour-load pointer SOURCE.json /JSON/POINTER
//! ```
//!
//! `write` opens 64 connections, each writing numbered records one after the other, kills the
//! server with SIGKILL once `KILL-AFTER` are acknowledged and `WAIT-FOR-FILE`, if named, is there,
//! and notes how many each connection saw acknowledged. `verify` compares an export with the
//! imported files and those records. `lines` prints the rows of a table as NDJSON, each under the
//! value of its key; `pointer` prints a part of a file as compact JSON.

mod load;
mod record;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::load::Load;
use crate::record::Acknowledged;
use crate::verify::Source;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONNECTIONS: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["write", url, pid, kill_after, file, wait_for @ ..] if wait_for.len() < 2 => {
            let acknowledged = load::run(Load {
                url: (*url).to_owned(),
                connections: CONNECTIONS,
                server_pid: pid.parse()?,
                kill_after: kill_after.parse()?,
                wait_for: wait_for.first().map(PathBuf::from),
            })
            .await?;
            std::fs::write(file, serde_json::to_vec(&acknowledged)?)?;
            println!("{}", acknowledged.connections.iter().sum::<u64>());
        }
        ["verify", export, file, sources @ ..] => {
            let acknowledged: Acknowledged = serde_json::from_slice(&std::fs::read(file)?)?;
            let sources = sources.iter().map(|source| {
                let (path, file) = source.split_once('=').ok_or("write PATH=FILE")?;
                Ok(Source { path: path.to_owned(), file: file.into() })
            });
            let sources = sources.collect::<Result<Vec<_>, Failure>>()?;
            let verified = verify::verify(export.as_ref(), &acknowledged, &sources)?;
            println!(
                "{} {} {}",
                verified.imported_leaves, verified.acknowledged, verified.unacknowledged
            );
        }
        ["lines", file, table, key] => {
            let value: Value = serde_json::from_slice(&std::fs::read(file)?)?;
            let rows = value.get(table).and_then(Value::as_array).ok_or("no such table")?;
            let mut out = std::io::stdout().lock();
            for row in rows {
                let path = row.get(key).and_then(Value::as_str).ok_or("a row without its key")?;
                writeln!(out, "{}", json!({"path": path, "value": row}))?;
            }
        }
        ["pointer", file, pointer] => {
            let value: Value = serde_json::from_slice(&std::fs::read(file)?)?;
            println!("{}", value.pointer(pointer).ok_or("nothing is there")?);
        }
        _ => return Err("write ... | verify ... | lines ... | pointer ...: see the source".into()),
    }
    Ok(())
}
