//! Figures against the raw engines: each is a ratio between Trellis and what it is built on, both
//! measured in alternating rounds of one run.
//!
//! Groups run alone (`trellis-bench point-reads --kv redb`) or all together. What each figure
//! means, and the last honest table, is in docs/BENCHMARKS.md. Deliberately not here: assertions.
//! A machine that is busy with something else is no failure of the product.

#![allow(
    clippy::disallowed_methods,
    reason = "a stopwatch needs the clock, and load needs threads"
)]

mod broadcast;
mod concurrent;
mod copying;
mod echo;
mod engine;
mod fan_out;
mod footprint;
mod growth;
mod import;
mod keys;
mod kv;
mod load;
mod measure;
mod point;
mod process;
mod query;
mod raw;
mod raw_engine;
mod raw_redb;
mod raw_sled;
mod raw_sqlite;
mod redis;
mod reopen;
mod replication;
mod replication_fill;
mod replication_history;
mod replication_load;
mod replication_memory;
mod replication_peers;
mod replication_setting;
mod replication_ten;
mod report;
mod settings;
mod single;
mod socket_client;
mod sockets;
mod subscriptions;
mod subtree;

use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;
use crate::settings::{Arguments, Group, Serve, Settings};

/// Whatever stops a figure.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.serve {
        Some(Serve::Echo) => echo::serve(),
        Some(Serve::Broadcast) => broadcast::serve(),
        Some(Serve::Trellis) => process::serve_trellis(&arguments),
        Some(Serve::Node) => process::serve_node(&arguments),
        None => match arguments.write_tail {
            Some(kv) => reopen::write_tail(&arguments, kv),
            None => run(&arguments),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trellis-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    // Kept until the end: dropping it removes the data.
    let (settings, _temporary) = Settings::new(arguments)?;
    let mut report = Report::new(&settings);
    for group in arguments.groups() {
        eprintln!("-- {}", group.name());
        let done = match group {
            Group::SingleWriter => single::run(&settings, &mut report),
            Group::ConcurrentWriters => concurrent::run(&settings, &mut report),
            Group::PointReads => point::run(&settings, &mut report),
            Group::Subtree => subtree::run(&settings, &mut report),
            Group::Sockets => sockets::run(&settings, &mut report),
            Group::Footprint => footprint::run(&settings, &mut report),
            Group::Import => import::run(&settings, &mut report),
            Group::Reopen => reopen::run(&settings, &mut report),
            Group::Growth => growth::run(&settings, &mut report),
            Group::Copy => copying::run(&settings, &mut report),
            Group::Query => query::run(&settings, &mut report),
            Group::FanOut => fan_out::run(&settings, &mut report),
            Group::Subscriptions => subscriptions::run(&settings, &mut report),
            Group::Replication => replication::run(&settings, &mut report),
        };
        done.map_err(|error| format!("{}: {error}", group.name()))?;
    }
    print!("{}", report.table());
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()?)?;
    }
    Ok(())
}
