//! `trellis import`: a parser on a thread of its own, a bounded channel, batches in flight.
//!
//! An import is a set of leaves, not one commit: each batch is durable by itself, what is at other
//! paths stays, a later leaf wins over an earlier one, `null` removes. An import that ended early
//! can be run again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path as FilePath;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::ProgressBar;
use tokio::sync::{mpsc, oneshot};
use trellis::{Path, Runtime};

use crate::cli::batcher::Batch;
use crate::cli::failure::Failure;
use crate::cli::place::{Format, Place};
use crate::cli::progress::Progress;
use crate::cli::target::{Entries, Entry, Target};
use crate::cli::walk;

/// Batches that are parsed ahead.
const BATCHES_WAITING: usize = 4;
/// Batches that are sent and not durable yet.
const BATCHES_IN_FLIGHT: usize = 16;
const READ_BUFFER_BYTES: usize = 256 << 10;
/// What a frame holds besides the updates.
const FRAMING_BYTES: usize = 512;

/// Imports a file.
pub(super) async fn run(
    file: &FilePath,
    base: &str,
    format: Format,
    place: &Place,
) -> Result<(), Failure> {
    let (source, bytes) = open(file)?;
    let target = Target::open(place).await?;
    let progress = Progress::begin("imported", bytes);
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
    let bar = progress.bar().clone();
    let base = base.trim_matches('/').to_owned();
    let (report, parsed) = oneshot::channel();
    let parser = Runtime::system().spawn_worker("import", move || {
        let outcome = parse(source, &base, format, &bar, &sender);
        // When nobody waits any more, the writer has failed and says why itself.
        let _is_heard = report.send(outcome).is_ok();
    })?;
    let leaves = write(&target, receiver, &progress).await?;
    parsed.await.map_err(|_| Failure::failed("the parser ended without a result"))??;
    drop(parser);
    target.close().await?;
    progress.finish(leaves, "leaves");
    Ok(())
}

fn open(file: &FilePath) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if file == FilePath::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let name = file.display().to_string();
    let opened = File::open(file).map_err(|error| Failure::io(&name, &error))?;
    let metadata = opened.metadata().map_err(|error| Failure::io(&name, &error))?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(opened), bytes))
}

/// Reads leaves and sends batches; blocks while enough of them wait.
fn parse(
    source: Box<dyn Read + Send>,
    base: &str,
    format: Format,
    bar: &ProgressBar,
    sender: &mpsc::Sender<Batch>,
) -> Result<(), Failure> {
    let reader: Box<dyn BufRead> =
        Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, bar.wrap_read(source)));
    let mut batch = Batch::default();
    let mut emit = |entry: Entry| {
        // Here it is still known where in the file the path stands.
        if let Err(error) = Path::parse(&entry.path) {
            return Err(format!("{:?} is no path: {error}", entry.path));
        }
        match batch.push(entry) {
            None => Ok(()),
            // The writer has failed, and says why itself.
            Some(full) => sender.blocking_send(full).map_err(|_| "the tree refused".to_owned()),
        }
    };
    match format {
        Format::Json => walk::json(reader, base, &mut emit)?,
        Format::Ndjson => walk::lines(reader, base, &mut emit)?,
    }
    if !batch.entries.is_empty() && sender.blocking_send(batch).is_err() {
        return Err(Failure::failed("the tree refused"));
    }
    Ok(())
}

/// Writes batches in their order, several in flight; gives the number of leaves.
async fn write(
    target: &Target,
    mut batches: mpsc::Receiver<Batch>,
    progress: &Progress,
) -> Result<u64, Failure> {
    let mut in_flight = FuturesUnordered::new();
    let mut leaves = 0;
    loop {
        let received = tokio::select! {
            biased;
            Some(done) = in_flight.next(), if !in_flight.is_empty() => {
                leaves += done?;
                progress.leaves(leaves);
                continue;
            }
            received = batches.recv(), if in_flight.len() < BATCHES_IN_FLIGHT => received,
        };
        let Some(batch) = received else {
            break;
        };
        if let Target::Server(client) = target
            && batch.bytes + FRAMING_BYTES > client.server().limits.frame_bytes
        {
            // Over HTTP there is no order with what is in flight, so that goes first.
            while let Some(done) = in_flight.next().await {
                leaves += done?;
            }
            client.update_over_http(&Entries(&batch.entries)).await?;
            leaves += batch.entries.len() as u64;
            continue;
        }
        in_flight.push(async move {
            target.update(&batch.entries).await?;
            Ok::<_, Failure>(batch.entries.len() as u64)
        });
    }
    while let Some(done) = in_flight.next().await {
        leaves += done?;
        progress.leaves(leaves);
    }
    Ok(leaves)
}
