//! What a medium may hold after loss of power: one of the many images that a recording allows.
//!
//! Everything that was synced is there. Of the rest each file and each directory loses all,
//! keeps all, keeps a beginning, keeps any part in any order, or is torn at sectors of 512 or
//! 4096 bytes. A file that was created and whose directory was not synced may be gone, a rename
//! not done, a removal undone.
//!
//! Assumed: a sector is old or new, never garbage; a rename is done or not, never half.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Rng;

/// The bytes of a write; long runs of zeros take no memory.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Zeros(usize),
    Bytes(Arc<[u8]>),
}

impl Data {
    pub(super) fn of(bytes: &[u8]) -> Self {
        const ZEROS: [u8; 4096] = [0; 4096];
        if bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()]) {
            Self::Zeros(bytes.len())
        } else {
            Self::Bytes(bytes.into())
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Zeros(len) => *len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Puts the part that lies in `from..to` of the file into `contents`, which begins at 0.
    fn put(&self, position: usize, contents: &mut Vec<u8>, from: usize, to: usize) {
        let (from, to) = (from.max(position), to.min(position + self.len()));
        if from >= to {
            return;
        }
        grow(contents, to);
        match self {
            Self::Zeros(_) => contents[from..to].fill(0),
            Self::Bytes(bytes) => {
                contents[from..to].copy_from_slice(&bytes[from - position..to - position]);
            }
        }
    }
}

/// Zeros up to `len`, unless there is as much; quicker than `resize` without optimisation.
pub(super) fn grow(contents: &mut Vec<u8>, len: usize) {
    if contents.len() < len {
        let mut longer = vec![0; len];
        longer[..contents.len()].copy_from_slice(contents);
        *contents = longer;
    }
}

/// Makes it as long as this.
pub(super) fn set_len(contents: &mut Vec<u8>, len: usize) {
    contents.truncate(len);
    grow(contents, len);
}

/// A directory entry: a file by its number, or a directory.
pub(super) type Node = Option<usize>;

/// One thing that was done to a medium. Numbers of files are those of the recording.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Write { file: usize, position: usize, data: Data },
    SetLen { file: usize, bytes: usize },
    SyncFile { file: usize },
    Create { path: PathBuf, node: Node },
    Rename { from: PathBuf, to: PathBuf, node: Node },
    Remove { path: PathBuf },
    SyncDirectory { path: PathBuf },
}

/// What is on a medium: contents by number of the file, and the names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(super) files: Vec<Arc<Vec<u8>>>,
    pub(super) entries: BTreeMap<PathBuf, Node>,
}

impl Image {
    /// The path and the length of each file.
    pub(crate) fn listed(&self) -> Vec<(PathBuf, usize)> {
        let files = self.entries.iter().filter_map(|(path, node)| Some((path, (*node)?)));
        files.map(|(path, file)| (path.clone(), self.files[file].len())).collect()
    }

    /// Changes the bytes of a file.
    pub(crate) fn edit(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.entries[path].expect("a file, no directory");
        change(Arc::make_mut(&mut self.files[file]));
    }
}

#[derive(Debug, Default)]
struct Settled {
    durable: Arc<Vec<u8>>,
    pending: Vec<Operation>,
}

/// A recording played forward to some operation: what is durable by then, and what is not.
#[derive(Debug)]
pub(super) struct Playback<'a> {
    operations: &'a [Operation],
    at: usize,
    files: Vec<Settled>,
    entries: BTreeMap<PathBuf, Node>,
    pending: Vec<Operation>,
}

/// How much of what is not durable reached the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    Beginning,
    AnyPart,
    Torn(usize),
}

impl Fate {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(7) {
            0 => Self::Lost,
            1 => Self::Kept,
            2 => Self::Beginning,
            3 | 4 => Self::AnyPart,
            5 => Self::Torn(512),
            _ => Self::Torn(4096),
        }
    }
}

impl<'a> Playback<'a> {
    pub(super) fn new(start: &Image, operations: &'a [Operation]) -> Self {
        let settled =
            |durable: &Arc<Vec<u8>>| Settled { durable: Arc::clone(durable), pending: Vec::new() };
        Self {
            operations,
            at: 0,
            files: start.files.iter().map(settled).collect(),
            entries: start.entries.clone(),
            pending: Vec::new(),
        }
    }

    /// Plays on until `at` operations are done.
    pub(super) fn play_to(&mut self, at: usize) {
        while self.at < at {
            let operation = self.operations[self.at].clone();
            self.at += 1;
            self.play(operation);
        }
    }

    fn file(&mut self, file: usize) -> &mut Settled {
        if self.files.len() <= file {
            self.files.resize_with(file + 1, Settled::default);
        }
        &mut self.files[file]
    }

    fn play(&mut self, operation: Operation) {
        match &operation {
            Operation::Write { file, .. } | Operation::SetLen { file, .. } => {
                self.file(*file).pending.push(operation);
            }
            Operation::SyncFile { file } => {
                let settled = self.file(*file);
                let pending = std::mem::take(&mut settled.pending);
                if !pending.is_empty() {
                    let contents = Arc::make_mut(&mut settled.durable);
                    pending.iter().for_each(|change| apply(contents, change, 0, usize::MAX));
                }
            }
            Operation::Create { node, .. } => {
                if let Some(file) = node {
                    self.file(*file);
                }
                self.pending.push(operation);
            }
            Operation::Rename { .. } | Operation::Remove { .. } => self.pending.push(operation),
            Operation::SyncDirectory { path } => {
                for change in std::mem::take(&mut self.pending) {
                    if directory_of(&change) == Some(path.as_path()) {
                        enter(&mut self.entries, &change);
                    } else {
                        self.pending.push(change);
                    }
                }
            }
        }
    }

    /// What is on the medium after `at` operations if nothing is lost.
    pub(super) fn all_kept(mut self, at: usize) -> Image {
        self.play_to(at);
        let mut entries = self.entries;
        self.pending.iter().for_each(|change| enter(&mut entries, change));
        let kept = |file: &Settled| {
            let mut contents = Arc::clone(&file.durable);
            for change in &file.pending {
                apply(Arc::make_mut(&mut contents), change, 0, usize::MAX);
            }
            contents
        };
        Image { files: self.files.iter().map(kept).collect(), entries }
    }

    /// One thing that may be on the medium if the power goes now.
    pub(super) fn image(&self, rng: &mut Rng) -> Image {
        let mut entries = self.entries.clone();
        let fate = Fate::draw(rng);
        let beginning = rng.below(self.pending.len() + 1);
        for (number, change) in self.pending.iter().enumerate() {
            let kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Beginning => number < beginning,
                Fate::AnyPart | Fate::Torn(_) => rng.one_in(2),
            };
            if kept {
                enter(&mut entries, change);
            }
        }
        let all = entries.clone();
        let has_way = |path: &Path| {
            path.ancestors()
                .skip(1)
                .all(|above| above == Path::new("/") || all.get(above).is_some_and(Option::is_none))
        };
        entries.retain(|path, _| has_way(path));
        // Mostly one fate for all: what survives of several files together is what matters.
        let common = rng.one_in(2).then(|| Fate::draw(rng));
        let mut settle = |file: &Settled| {
            let fate = common.unwrap_or_else(|| Fate::draw(rng));
            settled(file, fate, rng)
        };
        let files = self.files.iter().map(&mut settle).collect();
        Image { files, entries }
    }
}

fn directory_of(change: &Operation) -> Option<&Path> {
    match change {
        Operation::Create { path, .. } | Operation::Remove { path } => path.parent(),
        Operation::Rename { to, .. } => to.parent(),
        _ => None,
    }
}

fn enter(entries: &mut BTreeMap<PathBuf, Node>, change: &Operation) {
    match change {
        Operation::Create { path, node } => drop(entries.insert(path.clone(), *node)),
        Operation::Rename { from, to, node } => {
            entries.remove(from);
            entries.insert(to.clone(), *node);
        }
        Operation::Remove { path } => drop(entries.remove(path)),
        _ => {}
    }
}

/// Does to `contents` what lies in `from..to`.
fn apply(contents: &mut Vec<u8>, change: &Operation, from: usize, to: usize) {
    match change {
        Operation::Write { position, data, .. } => data.put(*position, contents, from, to),
        Operation::SetLen { bytes, .. } if from == 0 && to == usize::MAX => {
            set_len(contents, *bytes);
        }
        Operation::SetLen { bytes, .. } => {
            let end = to.min(contents.len());
            if let Some(cut) = contents.get_mut(from.max(*bytes).min(end)..end) {
                cut.fill(0);
            }
        }
        _ => {}
    }
}

fn settled(file: &Settled, fate: Fate, rng: &mut Rng) -> Arc<Vec<u8>> {
    if file.pending.is_empty() || fate == Fate::Lost {
        return Arc::clone(&file.durable);
    }
    if let Fate::Torn(sector_bytes) = fate {
        return Arc::new(torn(file, sector_bytes, rng));
    }
    let mut contents = file.durable.to_vec();
    let beginning = rng.below(file.pending.len() + 1);
    for (number, change) in file.pending.iter().enumerate() {
        let kept = match fate {
            Fate::Beginning => number < beginning,
            Fate::AnyPart => rng.one_in(2),
            _ => true,
        };
        if kept {
            apply(&mut contents, change, 0, usize::MAX);
        } else if number == beginning && fate == Fate::Beginning {
            tear_one(&mut contents, change, rng);
        }
    }
    // The length is written apart from the contents: zeros may be where data was to be.
    let longest = length_after(file, file.pending.len());
    if longest > contents.len() && rng.one_in(2) {
        grow(&mut contents, longest);
    }
    Arc::new(contents)
}

/// The beginning of one write, cut at a sector.
fn tear_one(contents: &mut Vec<u8>, change: &Operation, rng: &mut Rng) {
    if let Operation::Write { position, data, .. } = change {
        let sector_bytes = [512, 4096][rng.below(2)];
        let sectors = (position + data.len()).div_ceil(sector_bytes) - position / sector_bytes;
        let cut = (position / sector_bytes + rng.below(sectors + 1)) * sector_bytes;
        data.put(*position, contents, 0, cut);
    }
}

/// The length of the file after the first `count` changes.
fn length_after(file: &Settled, count: usize) -> usize {
    file.pending[..count].iter().fold(file.durable.len(), |len, change| match change {
        Operation::Write { position, data, .. } => len.max(position + data.len()),
        Operation::SetLen { bytes, .. } => *bytes,
        _ => len,
    })
}

/// Each sector as it was after some of the changes, and the length after some of them.
fn torn(file: &Settled, sector_bytes: usize, rng: &mut Rng) -> Vec<u8> {
    let count = file.pending.len();
    let mut contents = file.durable.to_vec();
    let mut versions: HashMap<usize, usize> = HashMap::new();
    for (number, change) in file.pending.iter().enumerate() {
        let (from, to) = match change {
            Operation::Write { position, data, .. } => (*position, position + data.len()),
            Operation::SetLen { bytes, .. } => (*bytes, contents.len()),
            _ => continue,
        };
        for sector in from / sector_bytes..to.div_ceil(sector_bytes) {
            let version = *versions.entry(sector).or_insert_with(|| match rng.below(4) {
                0 => 0,
                1 => count,
                _ => rng.below(count + 1),
            });
            if number < version {
                let start = sector * sector_bytes;
                apply(&mut contents, change, start, start + sector_bytes);
            }
        }
    }
    let version = if rng.one_in(2) { count } else { rng.below(count + 1) };
    set_len(&mut contents, length_after(file, version));
    contents
}
