//! `index list`, `create`, `drop`: on a closed database, or on a server beside its clients.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use trellis::{IndexDefinition, Trellis};
use trellis_client::Admin;

use crate::cli::failure::Failure;
use crate::cli::output::print_line;
use crate::cli::place::Place;
use crate::cli::progress::Progress;
use crate::cli::upkeep::{admin, blocking, config_of};

/// How often the progress of a build is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// List, create and drop indexes, which queries find items by
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis index create users age                          items of users, by age
  trellis index create 'users/*/posts' author createdAt:desc
  trellis index list
  trellis index drop 1a2b3c4d")]
pub(super) struct Index {
    #[command(subcommand)]
    pub(super) verb: IndexVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum IndexVerb {
    /// Print every index and how far it is built, one JSON line each
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Define an index and wait until it is built; the database goes on being used meanwhile
    Create {
        /// The collection whose children are the items; * stands for any one segment
        path: String,
        /// 1 to 4 fields: paths below an item, $key or $value; with :desc behind it, descending
        #[arg(required = true)]
        fields: Vec<String>,
        /// Do not wait: it is built in the background (of a server, or at the next open)
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Drop an index
    Drop {
        /// Its id, as `list` prints it
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where indexes are asked for.
enum Side {
    Server(Admin),
    Local(Trellis),
}

impl Side {
    async fn open(place: &Place) -> Result<Self, Failure> {
        if place.is_local() {
            let config = config_of(&place.database)?;
            let opened = blocking(move || Trellis::open_existing(config));
            return Ok(Self::Local(opened.await?));
        }
        Ok(Self::Server(admin(place)?))
    }

    /// Who only looks leaves a closed database as it is.
    async fn open_to_read(place: &Place) -> Result<Self, Failure> {
        if place.is_local() {
            let config = config_of(&place.database)?;
            let opened = blocking(move || Trellis::open_existing_paused(config));
            return Ok(Self::Local(opened.await?));
        }
        Ok(Self::Server(admin(place)?))
    }

    async fn list(&self) -> Result<Vec<Value>, Failure> {
        let listed = match self {
            Self::Server(admin) => admin.indexes().await?,
            Self::Local(db) => json!({ "indexes": db.indexes() }),
        };
        Ok(listed.get("indexes").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    async fn create(&self, definition: &Value) -> Result<Value, Failure> {
        match self {
            Self::Server(admin) => Ok(admin.create_index(definition).await?),
            Self::Local(db) => {
                let created = db.create_index(&IndexDefinition::from_json(definition)?)?;
                Ok(json!(created))
            }
        }
    }

    async fn remove(&self, id: &str) -> Result<(), Failure> {
        match self {
            Self::Server(admin) => admin.drop_index(id).await.map(drop).map_err(Failure::from),
            Self::Local(db) if db.drop_index(id)? => Ok(()),
            Self::Local(_) => Err(Failure::failed(format!("there is no index {id}"))),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Self::Server(_) => Ok(()),
            Self::Local(db) => Ok(db.close()?),
        }
    }
}

/// Runs one of the verbs.
pub(super) async fn run(index: Index) -> Result<(), Failure> {
    match index.verb {
        IndexVerb::List { place } => {
            let side = Side::open_to_read(&place).await?;
            for index in side.list().await? {
                print_line(&index.to_string())?;
            }
            side.close()
        }
        IndexVerb::Create { path, fields, no_wait, place } => {
            let fields: Vec<Value> = fields.iter().map(|field| field_of(field)).collect();
            let side = Side::open(&place).await?;
            let created = side.create(&json!({ "path": path, "fields": fields })).await?;
            let id = created.get("id").and_then(Value::as_str).unwrap_or_default();
            let built = if no_wait { created.clone() } else { wait(&side, id).await? };
            print_line(&built.to_string())?;
            side.close()
        }
        IndexVerb::Drop { id, place } => {
            let side = Side::open(&place).await?;
            side.remove(&id).await?;
            side.close()
        }
    }
}

/// `age` or `createdAt:desc`.
fn field_of(text: &str) -> Value {
    match text.strip_suffix(":desc") {
        Some(field) => json!([field, "desc"]),
        None => json!(text.strip_suffix(":asc").unwrap_or(text)),
    }
}

/// Shows how far a build is until it is done.
async fn wait(side: &Side, id: &str) -> Result<Value, Failure> {
    let progress = Progress::begin("built", None);
    loop {
        let listed = side.list().await?;
        let index = listed.into_iter().find(|index| index["id"] == id);
        let Some(index) = index else {
            return Err(Failure::failed("the index was dropped while it was built"));
        };
        if let Some(why) = index.get("failed").and_then(Value::as_str) {
            return Err(Failure::failed(format!("the index cannot be built: {why}")));
        }
        let items = index.get("items_built").and_then(Value::as_u64).unwrap_or(0);
        if index.get("ready") == Some(&Value::Bool(true)) {
            progress.finish(items, "items");
            return Ok(index);
        }
        let at = index.get("building_at").and_then(Value::as_str).unwrap_or_default();
        progress.items(items, at);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
