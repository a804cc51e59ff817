//! `trellis export` and `trellis get`: one view, streamed, flat memory.
//!
//! A file appears under its name when it is whole and durable; until then it is `NAME.part`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path as FilePath, PathBuf};

use trellis_client::ExportFormat;
use trellis_tree::Path;

use crate::cli::failure::Failure;
use crate::cli::place::{Format, Place};
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::stream::for_each_chunk;

/// Prints the value at a path.
pub(super) async fn print(path: &str, place: &Place) -> Result<(), Failure> {
    let target = Target::open_to_read(place).await?;
    let mut output = Output::standard();
    copy(&target, path, Format::Json, &mut output, None).await?;
    output.finish()?;
    target.close().await
}

/// Exports a subtree.
pub(super) async fn run(
    path: &str,
    format: Format,
    file: Option<&FilePath>,
    place: &Place,
) -> Result<(), Failure> {
    let target = Target::open_to_read(place).await?;
    let mut output = match file {
        Some(file) => Output::file(file)?,
        None => Output::standard(),
    };
    let progress = Progress::begin("exported", None);
    copy(&target, path, format, &mut output, Some(&progress)).await?;
    let (bytes, lines) = (output.bytes, output.lines);
    output.finish()?;
    match format {
        Format::Json => progress.finish(bytes, "bytes"),
        Format::Ndjson => progress.finish(lines, "leaves"),
    }
    target.close().await
}

async fn copy(
    target: &Target,
    path: &str,
    format: Format,
    output: &mut Output,
    progress: Option<&Progress>,
) -> Result<(), Failure> {
    let path = path.trim_matches('/');
    match target {
        Target::Server(client) => {
            let wanted = match format {
                Format::Json => ExportFormat::Json,
                Format::Ndjson => ExportFormat::Ndjson,
            };
            let mut export = client.export(path, wanted).await?;
            while let Some(chunk) = export.next_chunk().await? {
                output.write(&chunk)?;
                report(progress, output);
            }
        }
        Target::Local(db) => {
            let path = Path::parse(path)?;
            let view = db.tree().view()?;
            let mut outcome = Ok(());
            let mut take = |chunk: &[u8]| {
                outcome = output.write(chunk);
                report(progress, output);
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            match format {
                Format::Json => view.stream_json(&path, &mut take)?,
                Format::Ndjson => for_each_chunk(&view, &path, &mut take)?,
            }
            outcome?;
        }
    }
    if format == Format::Json {
        output.write(b"\n")?;
    }
    Ok(())
}

fn report(progress: Option<&Progress>, output: &Output) {
    if let Some(progress) = progress {
        progress.bar().set_position(output.bytes);
    }
}

/// Where an export goes.
struct Output {
    writer: BufWriter<Box<dyn Write>>,
    name: String,
    /// The finished file, and what it is called until then.
    file: Option<(PathBuf, PathBuf)>,
    bytes: u64,
    lines: u64,
}

impl Output {
    fn standard() -> Self {
        let writer: Box<dyn Write> = Box::new(std::io::stdout());
        let name = "standard output".to_owned();
        Self { writer: BufWriter::new(writer), name, file: None, bytes: 0, lines: 0 }
    }

    fn file(file: &FilePath) -> Result<Self, Failure> {
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let name = part.display().to_string();
        let writer: Box<dyn Write> =
            Box::new(File::create(&part).map_err(|error| Failure::io(&name, &error))?);
        let file = Some((file.to_owned(), part));
        Ok(Self { writer: BufWriter::new(writer), name, file, bytes: 0, lines: 0 })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.bytes += chunk.len() as u64;
        self.lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.writer.write_all(chunk).map_err(|error| Failure::io(&self.name, &error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let failed = |error| Failure::io(&self.name, &error);
        self.writer.flush().map_err(failed)?;
        drop(self.writer);
        let Some((file, part)) = self.file else {
            return Ok(());
        };
        File::open(&part).and_then(|written| written.sync_all()).map_err(failed)?;
        std::fs::rename(&part, &file).map_err(failed)
    }
}
