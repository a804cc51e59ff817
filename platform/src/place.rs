//! Where a database is, in one word, as the commands that move databases take it.

use std::path::{Path, PathBuf};

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::Runtime;

use crate::config::Config;
use crate::data_directory;
use crate::handle::Trellis;
use crate::profile::Profile;
use crate::replication::Linking;

/// The store's usual place in a data directory, by scheme.
const USUAL_KV: [(&str, &str); 3] =
    [("redb", "redb:tree.redb"), ("sqlite", "sqlite:trellis.sqlite"), ("sled", "sled:tree.sled")];
/// The journal's usual place in a data directory.
const USUAL_LOG: &str = "segment:log";

impl Config {
    /// The settings of the database at a place: `DIRECTORY`, or `SCHEME:DIRECTORY` to say which
    /// store it has.
    ///
    /// A place is a data directory, and store and journal are in it. A directory that holds a
    /// database is opened with the engines that it was made with; naming another store is refused.
    /// In an empty one, `redb:a` is `redb:tree.redb`, `sqlite:a` is `sqlite:trellis.sqlite` and
    /// `sled:a` is `sled:tree.sled`, all with the journal `segment:log`, in the directory `a`; `a`
    /// alone means what [`Config::in_directory`] means. `log` names another journal than the usual
    /// one: a URL as in [`Config::log`].
    ///
    /// So `trellis serve --data a` serves what was moved to `redb:a`.
    ///
    /// # Errors
    /// `InvalidInput` for a place without a directory, for one that begins with another name than a
    /// store's, and for engines that a directory's data was not made with; `Corrupt`, `Denied`,
    /// `Unavailable` when the directory cannot be understood.
    ///
    /// ```
    /// use trellis::Config;
    ///
    /// let config = Config::at("sqlite:/no/such/directory", None)?;
    /// assert_eq!(config.data.to_str(), Some("/no/such/directory"));
    /// assert_eq!(config.kv_url(), "sqlite:trellis.sqlite");
    /// assert_eq!(config.log_url(), "segment:log");
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn at(place: &str, log: Option<&str>) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let schemed = place.split_once(':').and_then(|(scheme, directory)| {
            let (known, kv) = USUAL_KV.into_iter().find(|(known, _)| *known == scheme)?;
            Some((known, kv, directory))
        });
        if schemed.is_none() && looks_schemed(place) && !Path::new(place).exists() {
            return invalid(format!(
                "`{place}`: no place begins like this; write redb:, sqlite: or sled: and a \
                 directory, or ./{place} if the directory is called that"
            ));
        }
        let directory = schemed.map_or(place, |(_, _, directory)| directory);
        if directory.is_empty() {
            return invalid(format!("`{place}` names no directory; write SCHEME:DIRECTORY"));
        }
        let mut config = Self::in_directory(PathBuf::from(directory));
        let made_with = data_directory::made_with(&config.data)?;
        match (schemed, made_with) {
            (None, None) => config.log = log.map(str::to_owned),
            (Some((_, kv, _)), None) => {
                config.kv = Some(kv.to_owned());
                config.log = Some(log.unwrap_or(USUAL_LOG).to_owned());
            }
            (schemed, Some((kv, made_log))) => {
                let own = kv.split(':').next().unwrap_or_default();
                if schemed.is_some_and(|(scheme, _, _)| scheme != own) {
                    return invalid(format!("`{place}`: the directory holds a database on {own}"));
                }
                if log.is_some_and(|log| log != made_log) {
                    return invalid(format!("`{place}`: the database's journal is {made_log}"));
                }
                config.kv = Some(kv);
                config.log = Some(made_log);
            }
        }
        Ok(config)
    }

    /// These settings, with the engines that the data was made with where the settings name none:
    /// neither a store nor a journal, nor a profile other than the default one. Without data at
    /// [`Config::data`] nothing changes.
    ///
    /// # Errors
    /// `Corrupt`, `Denied`, `Unavailable` when the directory cannot be understood.
    ///
    /// ```
    /// use trellis::Config;
    ///
    /// let config = Config::in_directory("/no/such/directory").with_engines_of_data()?;
    /// assert_eq!(config.kv_url(), "redb:tree.redb");
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn with_engines_of_data(mut self) -> Result<Self> {
        let names_none =
            self.kv.is_none() && self.log.is_none() && self.profile == Profile::default();
        if names_none && let Some((kv, log)) = data_directory::made_with(&self.data)? {
            (self.kv, self.log) = (Some(kv), Some(log));
        }
        Ok(self)
    }
}

impl Trellis {
    /// Opens a database that is there, and creates none; without links, as
    /// [`Trellis::open_alone`].
    ///
    /// # Errors
    /// `NotFound` when there is none; as for [`Trellis::open_config`].
    pub fn open_existing(config: Config) -> Result<Self> {
        require(&config)?;
        Self::open_alone(config)
    }

    /// As [`Trellis::open_existing`], with writes paused from the beginning, as by
    /// [`Trellis::pause_writes`]: not even what is due is removed, so that what is read is what
    /// was there.
    ///
    /// # Errors
    /// As for [`Trellis::open_existing`].
    pub fn open_existing_paused(config: Config) -> Result<Self> {
        require(&config)?;
        Self::open_as(config, Runtime::system(), true, &Linking::Alone)
    }
}

/// Whether a place begins with what is meant as a store's name; one letter is a drive.
fn looks_schemed(place: &str) -> bool {
    place.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn require(config: &Config) -> Result<()> {
    if data_directory::made_with(&config.data)?.is_some() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, "there is no database at this place")
        .operation("open")
        .context("directory", config.data.display()))
}
