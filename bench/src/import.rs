//! `trellis import` of many leaves into a new database: leaves a second, and the most memory.
//!
//! The release binary itself is run, on a file as a user has it, so that what is measured is what
//! a user gets. Memory is the kernel's own high-water mark.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::settle_disk;
use crate::process::peak_kib;
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "import";
const TARGET_MIB: f64 = 300.0;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    settings.check_binary()?;
    let file = leaves_file(settings)?;
    // The binary has these two; sled is not in it by default.
    for kv in settings.engines().into_iter().filter(|kv| *kv != Kv::Sled) {
        let target = if kv == Kv::Redb { 150_000.0 } else { 100_000.0 };
        let (mut rates, mut mib) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            settle_disk(&settings.dir)?;
            let (seconds, kib) = import(settings, kv, &file)?;
            rates.push(settings.keys as f64 / seconds);
            mib.push(kib / 1024.0);
        }
        let title = format!("{}, {} leaves", kv.name(), settings.keys);
        report.push(Row::at_least(GROUP, title, "leaves/s", &rates, target));
        let title = format!("{}, most memory", kv.name());
        report.push(Row::bound(GROUP, title, "MiB", &mib, Some(TARGET_MIB)));
    }
    Ok(())
}

/// One JSON text of all leaves.
fn leaves_file(settings: &Settings) -> Result<PathBuf> {
    let path = settings.dir.join(format!("import-{}.json", settings.keys));
    if path.exists() {
        return Ok(path);
    }
    let mut out = BufWriter::new(File::create(&path)?);
    let mut random = Random::new(1);
    out.write_all(b"{\"users\":{")?;
    for number in 0..settings.keys {
        let comma = if number == 0 { "" } else { "," };
        let value = keys::value_text(&mut random);
        write!(out, "{comma}\"{number:010}\":{{\"name\":\"{value}\"}}")?;
    }
    out.write_all(b"}}")?;
    out.flush()?;
    Ok(path)
}

/// Seconds and KiB of one import into an empty directory.
fn import(settings: &Settings, kv: Kv, file: &Path) -> Result<(f64, f64)> {
    let data = settings.dir.join("import");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let begin = Instant::now();
    let mut child = Command::new(&settings.trellis)
        .args(["import", "--kv", &format!("{0}:tree.{0}", kv.name()), "--log", "segment:log"])
        .arg("--data")
        .args([&data, &file.to_path_buf()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut kib = 0.0_f64;
    let status = loop {
        // Of a process that has ended there is nothing to read.
        kib = kib.max(peak_kib(child.id()).unwrap_or(0.0));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&data)?;
    if status.success() { Ok((seconds, kib)) } else { Err("the import failed".into()) }
}
