//! Journal records and the store's own notes: bytes on the medium.
//!
//! A record is one byte of format, then the fields in postcard encoding; in later formats what the
//! format before did not have follows these fields: images in 2, the author in 3. `prev` is the
//! hash of the whole record before it, so that two histories which agree at one record agree on
//! all before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::cause::ChangeCause;
use crate::effect::Effect;
use crate::image::{self, Image};
use crate::stamp::{Author, Version};
use crate::stamping::Stamping;

const FORMAT: u8 = 1;
/// Of what tells more than it did at first: more fields follow those of format 1.
const FORMAT_EXTENDED: u8 = 2;
/// Of records that are replicated: their author follows the fields of format 2. Of openings of a
/// tree that is: since when what is stamped.
const FORMAT_AUTHORED: u8 = 3;

/// A chained hash.
pub(crate) type Chain = [u8; 16];

/// Of one operation: the id it pushed, and paths with what their transforms came to, as JSON.
pub(crate) type RememberedResult = (Option<String>, Vec<(String, String)>);

/// The answer that an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) fingerprint: Chain,
    pub(crate) rev: u64,
    pub(crate) results: Vec<RememberedResult>,
}

/// One commit as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) rev: u64,
    pub(crate) epoch: u64,
    pub(crate) at_ms: u64,
    pub(crate) prev: Chain,
    pub(crate) cause: ChangeCause,
    pub(crate) key: Option<(String, Remembered)>,
    pub(crate) effects: Vec<Effect>,
    /// Of each effect that changes leaves, what was there before; `None` in format 1, where it is
    /// not known of any.
    #[serde(skip)]
    pub(crate) images: Option<Vec<Image>>,
    /// Who wrote it when, and what of it is stamped; `None`: nothing is.
    #[serde(skip)]
    pub(crate) authored: Option<Authored>,
}

/// What replication has to know of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authored {
    pub(crate) author: Author,
    /// Effects that are not stamped with the author's version, ascending: their number, and the
    /// version they have; `None`: the effect leaves no stamp.
    pub(crate) others: Vec<(u32, Option<Version>)>,
}

impl Authored {
    /// `None` when nothing is stamped.
    pub(crate) fn new(author: Author, versions: &[Option<Version>]) -> Option<Self> {
        versions.iter().any(Option::is_some).then(|| Self::with(author, versions))
    }

    /// Also when nothing is: stamps may go that were there.
    pub(crate) fn with(author: Author, versions: &[Option<Version>]) -> Self {
        let own = Some(author.version);
        let others = versions.iter().zip(0..).filter(|(version, _)| **version != own);
        let others = others.map(|(version, at)| (at, *version)).collect();
        Self { author, others }
    }

    /// The newest time in it.
    pub(crate) fn newest_hlc(&self) -> u64 {
        let others = self.others.iter().filter_map(|(_, version)| *version);
        others.map(|version| version.hlc).fold(self.author.version.hlc, u64::max)
    }

    /// The versions of the effects, in their order; goes on without end.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Option<Version>> {
        let mut others = self.others.iter().peekable();
        (0_u32..).map(move |at| {
            let other = others.next_if(|(other, _)| *other == at);
            other.map_or(Some(self.author.version), |(_, version)| *version)
        })
    }
}

impl Record {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        match &self.authored {
            None => encode_extended(self, self.images.as_ref()),
            Some(authored) => {
                let encoded = append(self, vec![FORMAT_AUTHORED])?;
                append(authored, append(&self.images, encoded)?).map(Bytes::from)
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "journal record";
        let (record, images, authored) = match bytes.split_first() {
            Some((&FORMAT_AUTHORED, body)) => {
                let (record, rest) = take::<Self>(body, WHAT)?;
                let (images, rest) = take::<Option<Vec<Image>>>(rest, WHAT)?;
                (record, images, Some(finish(take(rest, WHAT)?, WHAT)?))
            }
            Some((&format, _)) if format > FORMAT_AUTHORED => return Err(newer(format)),
            _ => {
                let (record, images) = decode_extended::<Self, Vec<Image>>(bytes, WHAT)?;
                (record, images, None)
            }
        };
        if images.as_ref().is_some_and(|images| !image::fit(images, &record.effects)) {
            return Err(Error::new(ErrorKind::Corrupt, "a journal record cannot be read"));
        }
        Ok(Self { images, authored, ..record })
    }
}

/// The hash that the next record carries.
pub(crate) fn chain(record: &[u8]) -> Chain {
    short_hash(blake3::hash(record))
}

pub(crate) fn short_hash(hash: blake3::Hash) -> Chain {
    let mut short = [0; 16];
    for (target, byte) in short.iter_mut().zip(hash.as_bytes()) {
        *target = *byte;
    }
    short
}

/// How far a store has come, kept in the same batch as the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) log_id: u128,
    pub(crate) rev: u64,
    pub(crate) chain: Chain,
    /// The newest time of the hybrid clock until then; `None` in format 1: it was never asked.
    #[serde(skip)]
    pub(crate) hlc: Option<u64>,
}

impl Applied {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        encode_extended(self, self.hlc.as_ref())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (applied, hlc) = decode_extended::<Self, u64>(bytes, "store's note of its rev")?;
        Ok(Self { hlc, ..applied })
    }
}

/// Who a journal is; appended to its own stream at every open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) log_id: u128,
    pub(crate) epoch: u64,
    /// The rev before the journal's first record.
    pub(crate) base: u64,
    pub(crate) at_ms: u64,
    /// The journal's last rev then; `None` in format 1.
    #[serde(skip)]
    pub(crate) rev: Option<u64>,
    /// Since when what is stamped; `None` until format 3: nothing is.
    #[serde(skip)]
    pub(crate) stamping: Option<Stamping>,
}

impl Opening {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        match &self.stamping {
            None => encode_extended(self, self.rev.as_ref()),
            Some(stamping) => {
                let encoded = append(self, vec![FORMAT_AUTHORED])?;
                append(stamping, append(&self.rev, encoded)?).map(Bytes::from)
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "opening";
        match bytes.split_first() {
            Some((&FORMAT_AUTHORED, body)) => {
                let (opening, rest) = take::<Self>(body, WHAT)?;
                let (rev, rest) = take(rest, WHAT)?;
                let stamping = Some(finish(take(rest, WHAT)?, WHAT)?);
                Ok(Self { rev, stamping, ..opening })
            }
            _ => {
                let (opening, rev) = decode_extended::<Self, u64>(bytes, WHAT)?;
                Ok(Self { rev, ..opening })
            }
        }
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    append(value, vec![FORMAT]).map(Bytes::from)
}

pub(crate) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8], what: &'static str) -> Result<T> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => finish(take(body, what)?, what),
        Some((&format, _)) if format > FORMAT => Err(newer(format)),
        _ => Err(Error::new(ErrorKind::Corrupt, format!("a {what} cannot be read"))),
    }
}

/// Encodes in the second format if there is more to tell, else in the first.
fn encode_extended<T: Serialize, M: Serialize>(value: &T, more: Option<&M>) -> Result<Bytes> {
    match more {
        Some(more) => append(more, append(value, vec![FORMAT_EXTENDED])?).map(Bytes::from),
        None => encode(value),
    }
}

fn decode_extended<T, M>(bytes: &[u8], what: &'static str) -> Result<(T, Option<M>)>
where
    T: for<'a> Deserialize<'a>,
    M: for<'a> Deserialize<'a>,
{
    match bytes.split_first() {
        Some((&FORMAT_EXTENDED, body)) => {
            let (value, rest) = take(body, what)?;
            Ok((value, Some(finish(take(rest, what)?, what)?)))
        }
        Some((&format, _)) if format > FORMAT_EXTENDED => Err(newer(format)),
        _ => Ok((decode(bytes, what)?, None)),
    }
}

fn append<T: Serialize>(value: &T, to: Vec<u8>) -> Result<Vec<u8>> {
    postcard::to_extend(value, to).map_err(|source| {
        Error::new(ErrorKind::InvalidInput, "a record cannot be encoded").source(source)
    })
}

fn take<'b, T: for<'a> Deserialize<'a>>(
    body: &'b [u8],
    what: &'static str,
) -> Result<(T, &'b [u8])> {
    postcard::take_from_bytes(body).map_err(|source| {
        let message = format!("a {what} cannot be read");
        Error::new(ErrorKind::Corrupt, message).source(source)
    })
}

fn finish<T>((value, rest): (T, &[u8]), what: &'static str) -> Result<T> {
    if rest.is_empty() {
        return Ok(value);
    }
    Err(Error::new(ErrorKind::Corrupt, format!("a {what} goes on too long")))
}

fn newer(format: u8) -> Error {
    let message = "the data was written by a newer Trellis; open it with that version";
    Error::new(ErrorKind::Unsupported, message).context("format", format)
}
