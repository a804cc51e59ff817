//! Loading a store once, and a quiet disk before each round.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;

/// Runs `load` unless it was finished in this directory before.
pub(crate) fn once(dir: &Path, load: impl FnOnce() -> Result<()>) -> Result<()> {
    let marker = dir.join("LOADED");
    if marker.exists() {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    load()?;
    fs::write(marker, b"")?;
    Ok(())
}

/// Writes back what earlier rounds left behind, so that nobody pays for another's pages.
pub(crate) fn settle_disk(dir: &Path) -> Result<()> {
    let status = Command::new("sync").arg("-f").arg(dir).status()?;
    if status.success() { Ok(()) } else { Err("sync failed".into()) }
}
