//! An address book on the command line: Trellis in a program without any async runtime.
//!
//! ```text
//! embed-sync add alice alice@example.org     stores a contact, all or nothing
//! embed-sync note alice "prefers letters"    appends a note under a time-ordered key
//! embed-sync show alice                      reads it, and counts that it was read
//! embed-sync list a                          names that begin with "a", page by page
//! embed-sync remove alice
//! embed-sync --check                         does all of it in a temporary directory
//! ```
//!
//! The data is in `address-book`, or where `ADDRESS_BOOK` says.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trellis::{
    Check, Commit, Condition, Error, ErrorKind, Input, Operation, Path, Result, Trellis,
};

/// A contact as this program sees it; the tree sees leaves.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Contact {
    email: String,
    #[serde(default)]
    times_shown: u64,
    /// Keys are the times at which the notes were added.
    #[serde(default)]
    notes: std::collections::BTreeMap<String, String>,
}

struct AddressBook {
    db: Trellis,
}

impl AddressBook {
    fn open(directory: &std::path::Path) -> Result<Self> {
        Ok(Self { db: Trellis::open(directory)? })
    }

    /// Adds a contact, unless there is one of this name: condition and write are one commit.
    fn add(&self, name: &str, email: &str) -> Result<()> {
        let path = contact(name)?;
        let value = Input::from_json(json!({"email": email}))?;
        let commit = Commit::new(vec![Operation::Set { path: path.clone(), value, expiry: None }])
            .when(Condition { path, check: Check::Absent });
        self.db.commit(commit).map_err(|refused| refused.error)?;
        Ok(())
    }

    fn note(&self, name: &str, text: &str) -> Result<String> {
        self.db.push(contact(name)?.child("notes")?, text)
    }

    /// Reads a contact. The counter is a transform: no reader's count gets lost.
    fn show(&self, name: &str) -> Result<Option<Contact>> {
        let path = contact(name)?;
        if !self.db.exists(&path)? {
            return Ok(None);
        }
        self.db.set(path.child("times_shown")?, json!({".sv": {"increment": 1}}))?;
        self.db.get_as(&path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.db.children("contacts", after.as_deref(), 100)?;
            let matching = page.items.into_iter().map(|child| child.key);
            names.extend(matching.filter(|name| name.starts_with(prefix)));
            after = page.next;
            if after.is_none() {
                return Ok(names);
            }
        }
    }

    /// Rewrites an address, whatever it is by now: read, change, write if unchanged.
    fn move_to(&self, name: &str, domain: &str) -> Result<()> {
        self.db.transaction(contact(name)?.child("email")?, |email| match email.as_str() {
            Some(email) => {
                let user = email.split('@').next().unwrap_or_default();
                Ok(json!(format!("{user}@{domain}")))
            }
            None => Ok(Value::Null),
        })?;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.db.delete(contact(name)?)?;
        Ok(())
    }
}

fn contact(name: &str) -> Result<Path> {
    Path::root().child("contacts")?.child(name)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed-sync: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    if arguments == ["--check"] {
        return check();
    }
    let directory = std::env::var_os("ADDRESS_BOOK").unwrap_or_else(|| "address-book".into());
    let book = AddressBook::open(std::path::Path::new(&directory))?;
    match arguments {
        ["add", name, email] => book.add(name, email)?,
        ["note", name, text] => println!("{}", book.note(name, text)?),
        ["show", name] => match book.show(name)? {
            Some(contact) => println!("{contact:#?}"),
            None => println!("nobody is called {name}"),
        },
        ["list"] => println!("{}", book.list("")?.join("\n")),
        ["list", prefix] => println!("{}", book.list(prefix)?.join("\n")),
        ["move", name, domain] => book.move_to(name, domain)?,
        ["remove", name] => book.remove(name)?,
        _ => println!("add NAME EMAIL | note NAME TEXT | show NAME | list [PREFIX] | remove NAME"),
    }
    book.db.close()
}

/// Everything once, with four threads at the same contact, and a reopen in between.
fn check() -> Result<()> {
    let directory = tempfile::tempdir().map_err(|source| {
        Error::new(ErrorKind::Unavailable, "no temporary directory").source(source)
    })?;
    let book = AddressBook::open(directory.path())?;
    book.add("alice", "alice@example.org")?;
    book.add("bob", "bob@example.org")?;
    let twice = book.add("alice", "other@example.org");
    require(twice.is_err_and(|error| error.kind() == ErrorKind::Conflict), "one Alice only")?;
    let outcomes = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..25).try_for_each(|_| book.show("alice").map(|_| ()))))
            .collect();
        readers.into_iter().map(|reader| reader.join()).collect::<Vec<_>>()
    });
    for outcome in outcomes {
        outcome.map_err(|_| Error::new(ErrorKind::Unavailable, "a reader failed"))??;
    }
    book.note("alice", "prefers letters")?;
    book.note("alice", "moved")?;
    book.move_to("alice", "example.net")?;
    book.remove("bob")?;
    book.db.close()?;

    let book = AddressBook::open(directory.path())?;
    println!("{}", book.db.describe());
    let alice = book.show("alice")?;
    let alice = alice.ok_or_else(|| Error::new(ErrorKind::NotFound, "Alice is gone"))?;
    require(alice.email == "alice@example.net", "the new address stayed")?;
    require(alice.times_shown == 101, "every reading was counted")?;
    require(alice.notes.values().eq(["prefers letters", "moved"]), "the notes are in order")?;
    require(book.list("")? == ["alice"], "Bob was removed")?;
    book.db.close()?;
    println!("embed-sync: all checks passed");
    Ok(())
}

fn require(holds: bool, what: &str) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Corrupt, format!("check failed: {what}"))),
    }
}
