//! Replication between trees on redb: each part of it by itself, on a hub of its own.
//!
//! The parts are in the modules `replication_*`; what each figure means is in docs/BENCHMARKS.md.

use trellis_repl_loopback::LoopbackHub;

use crate::Result;
use crate::replication_setting::Setting;
use crate::report::Report;
use crate::settings::{Part, Settings};
use crate::{
    replication_fill, replication_history, replication_load, replication_memory, replication_ten,
};

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for part in &settings.parts {
        eprintln!("-- replication, {part:?}");
        let setting = Setting { settings, hub: LoopbackHub::new() };
        setting.clear("")?;
        match part {
            Part::Bootstrap => replication_fill::bootstrap(&setting, report)?,
            Part::Pouchdb => replication_fill::beside_pouchdb(&setting, report)?,
            Part::Memory => replication_memory::run(&setting, report)?,
            Part::Removal => replication_fill::removal(&setting, report)?,
            Part::Ten => replication_ten::run(&setting, report)?,
            Part::Arrival => replication_load::arrival(&setting, report)?,
            Part::CatchUp => replication_load::catch_up(&setting, report)?,
            Part::Bloat => replication_history::run(&setting, report)?,
        }
    }
    Ok(())
}
