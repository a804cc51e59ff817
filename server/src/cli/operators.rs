//! The grammar of the operators' verbs.

use clap::Args;

use crate::cli::place::{Database, Place};

/// Take a backup of a database while it goes on being used
///
/// The archive is read back while it is written, and has its name only once it is whole and
/// durable. Into a directory go `full-REV.trellis` and `incremental-FROM-TO.trellis`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis backup --to backups                      everything, from the server on this machine
  trellis backup --to backups --incremental        what was committed since the newest archive
  trellis backup --data db --to db.trellis         one file, from a directory without a server
  trellis backup --to - | ssh other 'cat > db.trellis'
  trellis backup --to backups --verify             reads all archives there, writes nothing

With --verify the exit code is 0 when all is sound, 1 when not, 2 when nothing could be read.")]
pub(super) struct Backup {
    /// A directory, a file called NAME.trellis, or - for standard output
    #[arg(long, value_name = "DIR|FILE|-")]
    pub(super) to: String,
    /// Only what was committed since the newest archive in the directory
    #[arg(long, conflicts_with_all = ["since", "verify"])]
    pub(super) incremental: bool,
    /// Only what was committed after this rev; into a file or standard output
    #[arg(long, value_name = "REV", conflicts_with = "verify")]
    pub(super) since: Option<u64>,
    /// Read archives back from beginning to end instead of taking one
    #[arg(long)]
    pub(super) verify: bool,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Make a database of a backup, as it was at its end, at a rev or at a time
///
/// The new database has a history of its own (a new log id). A restore that was cut off is gone on
/// with by the same command; until it has finished, nobody opens the place.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis restore --from backups --to copy
  trellis restore --from backups --to sqlite:copy --to-time 2026-03-01T12:00:00Z
  trellis backup --to - | trellis restore --from - --to copy
  trellis serve --data copy")]
pub(super) struct Restore {
    /// A directory of archives, one archive, or - for standard input
    #[arg(long, value_name = "DIR|FILE|-")]
    pub(super) from: String,
    /// An empty place: DIR, or STORE:DIR with the store redb, sqlite or sled
    #[arg(long, value_name = "PLACE")]
    pub(super) to: String,
    /// The journal of the new database, such as segment:log
    #[arg(long, value_name = "URL")]
    pub(super) log: Option<String>,
    /// As it was at this rev
    #[arg(long, value_name = "REV", conflicts_with = "to_time")]
    pub(super) to_rev: Option<u64>,
    /// As it was at this time: 2026-03-01T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(super) to_time: Option<String>,
}

/// Move a database to another store, journal or place
///
/// The source is left as it was. The target opens to nobody before its content has the digest of
/// the source. From a running server the copy catches up with the writers; then writes are refused
/// there, so that nothing is lost while clients are switched over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis migrate --from redb:db --to sqlite:new
  trellis migrate --from http://127.0.0.1:4400 --to sled:new
  trellis migrate --from http://127.0.0.1:4400 --to copy --resume")]
pub(super) struct Migrate {
    /// DIR or STORE:DIR of a closed database, or the address of a server
    #[arg(long, value_name = "PLACE|URL")]
    pub(super) from: String,
    /// An empty place: DIR, or STORE:DIR with the store redb, sqlite or sled
    #[arg(long, value_name = "PLACE")]
    pub(super) to: String,
    /// The journal of the source, if it is not the usual one and the directory does not say
    #[arg(long, value_name = "URL")]
    pub(super) from_log: Option<String>,
    /// The journal of the target, such as segment:log
    #[arg(long, value_name = "URL")]
    pub(super) log: Option<String>,
    /// Let the server take writes again afterwards: what is written from then on is not moved
    #[arg(long)]
    pub(super) resume: bool,
}

/// Compare the content of two databases, and name the first paths that differ
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis verify redb:db --against sqlite:new
  trellis verify http://127.0.0.1:4400 --against copy

To name the paths that differ, what a server holds is copied to the temporary directory first.

Exit codes: 0 the same content, 1 it differs, 2 could not be compared.")]
pub(super) struct Verify {
    /// DIR or STORE:DIR of a closed database, or the address of a server
    #[arg(value_name = "PLACE|URL")]
    pub(super) place: String,
    /// The other one
    #[arg(long, value_name = "PLACE|URL")]
    pub(super) against: String,
}

/// Look for damage in journal and store, on a server beside its writers or in a directory
///
/// Checks the engine's own files, every journal record, every stored value, what is derived from
/// them, and whether the store holds what the journal says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis check                          on the server of this machine, while it is used
  trellis check --data db                on a directory that no server has open
  trellis check --data db --repair

Each finding ends with what can be done: [journal] and [derive] lose nothing, [remove] keeps a copy
in removed-TIME.ndjson beside the data, [restore] needs `trellis rebuild` or a backup.

Exit codes: 0 nothing is wrong (any more), 1 damage was found (and is left), 2 could not check.")]
pub(super) struct Check {
    /// Repair what can be repaired; needs a directory that no server has open. Lists what it does
    #[arg(long)]
    pub(super) repair: bool,
    /// Print the report as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Make the files smaller: journal beyond what is retained goes, and the store compacts its own
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trellis compact --data db              everything that can be done
  trellis compact                        on a server: what can be done while it is used")]
pub(super) struct Compact {
    #[command(flatten)]
    pub(super) place: Place,
}

/// Make a damaged or lost store anew from its journal, as long as that goes back to the beginning
///
/// The old store's files are kept under another name.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  trellis rebuild --data db")]
pub(super) struct Rebuild {
    #[command(flatten)]
    pub(super) database: Database,
}
