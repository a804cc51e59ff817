//! Where a verb does its work: on a server, or in a database of this process.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use trellis::Trellis;
use trellis_client::{Client, ClientOptions, WriteOptions};
use trellis_tree::{Commit, Committed, Expiry, Input, Operation, Path};

use crate::cli::failure::Failure;
use crate::cli::place::Place;
use crate::cli::serve::open;
use crate::cli::upkeep::{blocking, config_of};

/// Where the tree is.
pub(super) enum Target {
    Server(Client),
    Local(Trellis),
}

/// A leaf on its way in: its path as text, and its JSON text.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) value: Box<RawValue>,
}

/// Entries as the object of path to value that `update` takes.
pub(super) struct Entries<'a>(pub(super) &'a [Entry]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for entry in self.0 {
            map.serialize_entry(&entry.path, &entry.value)?;
        }
        map.end()
    }
}

impl Target {
    /// Connects, or opens the database, whichever the options name; creates it if there is none.
    pub(super) async fn open(place: &Place) -> Result<Self, Failure> {
        if place.is_local() {
            return Ok(Self::Local(open(config_of(&place.database)?).await?));
        }
        Self::connect(place).await
    }

    /// As [`Target::open`], and creates none: a mistyped directory is no empty database.
    pub(super) async fn open_existing(place: &Place) -> Result<Self, Failure> {
        if place.is_local() {
            let config = config_of(&place.database)?;
            return Ok(Self::Local(blocking(move || Trellis::open_existing(config)).await?));
        }
        Self::connect(place).await
    }

    /// As [`Target::open_existing`], for verbs that only look: a closed database stays as it is,
    /// with what is due in it. What is removed without a node's configuration is not replicated,
    /// and all who follow it would be filled anew.
    pub(super) async fn open_to_read(place: &Place) -> Result<Self, Failure> {
        if place.is_local() {
            let config = config_of(&place.database)?;
            let opened = blocking(move || Trellis::open_existing_paused(config)).await?;
            return Ok(Self::Local(opened));
        }
        Self::connect(place).await
    }

    async fn connect(place: &Place) -> Result<Self, Failure> {
        Ok(Self::Server(Client::connect(&place.url()?, ClientOptions::default()).await?))
    }

    /// Ends the connection, or closes the database.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Server(client) => client.close().await,
            Self::Local(db) => db.close()?,
        }
        Ok(())
    }

    pub(super) async fn set(
        &self,
        path: &str,
        value: &RawValue,
        ttl: Option<f64>,
    ) -> Result<(), Failure> {
        match self {
            Self::Server(client) => {
                client.set_with(path, value, write_options(ttl)).await?;
            }
            Self::Local(db) => {
                let (path, value) = parse(path, value)?;
                commit(db, Operation::Set { path, value, expiry: expiry(ttl) }).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn push(
        &self,
        path: &str,
        value: &RawValue,
        ttl: Option<f64>,
    ) -> Result<String, Failure> {
        match self {
            Self::Server(client) => Ok(client.push_with(path, value, write_options(ttl)).await?),
            Self::Local(db) => {
                let (path, value) = parse(path, value)?;
                let expiry = expiry(ttl);
                let committed = commit(db, Operation::Push { path, value, expiry }).await?;
                let pushed = committed.results.into_iter().next().and_then(|first| first.pushed);
                Ok(pushed.unwrap_or_default())
            }
        }
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self {
            Self::Server(client) => {
                client.delete(path).await?;
            }
            Self::Local(db) => {
                commit(db, Operation::Delete { path: Path::parse(path)? }).await?;
            }
        }
        Ok(())
    }

    /// Sets these paths in one commit.
    pub(super) async fn update(&self, entries: &[Entry]) -> Result<(), Failure> {
        match self {
            Self::Server(client) => {
                client.update(&Entries(entries)).await?;
            }
            Self::Local(db) => {
                let updates = entries.iter().map(|entry| parse(&entry.path, &entry.value));
                let updates = updates.collect::<Result<Vec<_>, _>>()?;
                commit(db, Operation::Update { updates, expiry: None }).await?;
            }
        }
        Ok(())
    }

    /// One page of children as `(key, value)`, and where the next begins.
    pub(super) async fn children(
        &self,
        path: &str,
        after: Option<&str>,
        limit: usize,
        values: bool,
    ) -> Result<(Vec<(String, Option<Value>)>, Option<String>), Failure> {
        match self {
            Self::Server(client) => {
                let page = client.children(path, after, limit, values).await?;
                let items = page.items.into_iter().map(|child| (child.key, child.value));
                Ok((items.collect(), page.next_cursor))
            }
            Self::Local(db) => {
                /// A page is gathered before it is printed.
                const PAGE_BYTES_MAX: usize = 16 << 20;
                let path = Path::parse(path)?;
                let view = db.tree().view()?;
                let page = view.children(&path, after, limit, values.then_some(PAGE_BYTES_MAX))?;
                let items = page.items.into_iter().map(|child| {
                    let value = child.value.map(|raw| serde_json::from_str(raw.get()));
                    (child.key, value.and_then(Result::ok))
                });
                Ok((items.collect(), page.next))
            }
        }
    }
}

async fn commit(db: &Trellis, operation: Operation) -> Result<Committed, Failure> {
    Ok(db.tree().submit(Commit::new(vec![operation])).await?)
}

fn parse(path: &str, value: &RawValue) -> Result<(Path, Input), Failure> {
    Ok((Path::parse(path)?, Input::parse(value.get().as_bytes())?))
}

fn expiry(ttl: Option<f64>) -> Option<Expiry> {
    ttl.map(Expiry::TtlSeconds)
}

fn write_options(ttl: Option<f64>) -> WriteOptions {
    WriteOptions { expiry: ttl.map(trellis_client::Expiry::TtlSeconds), key: None }
}
