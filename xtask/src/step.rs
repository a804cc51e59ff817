//! One command of a verb: printed as one could type it, run in the workspace's root, its exit code
//! kept.
//!
//! Deliberately not here: retries, parallelism, shells. A step is one process.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a verb stopped: what to print, and what the process returns.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) exit_code: u8,
}

impl Failed {
    /// A failure that no child process reported.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }
}

/// What a step or a whole verb ends with.
pub(crate) type Outcome<T = ()> = Result<T, Failed>;

/// A cargo invocation with the environment it needs.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Step {
    /// `cargo` with the given arguments, separated by white space.
    pub(crate) fn cargo(arguments: &str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { arguments, environment: Vec::new() }
    }

    /// Adds arguments that may contain white space.
    pub(crate) fn arguments(mut self, more: &[String]) -> Self {
        self.arguments.extend_from_slice(more);
        self
    }

    /// Sets an environment variable for this step only.
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Prints the step, runs it with this terminal and fails with its exit code.
    pub(crate) fn run(&self) -> Outcome {
        eprintln!("\n$ {self}");
        let status = self.command().status().map_err(|error| self.not_started(&error))?;
        if status.success() {
            return Ok(());
        }
        // A child that died of a signal has no code; nor does one fit above 255.
        let exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Err(Failed { message: format!("failed ({status}): {self}"), exit_code })
    }

    /// Runs the step and gives what it printed to standard output.
    pub(crate) fn output(&self) -> Outcome<String> {
        eprintln!("\n$ {self}");
        let output = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| self.not_started(&error))?;
        if !output.status.success() {
            return Err(Failed::new(format!("failed ({}): {self}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether the step succeeds, silently: to ask if a subcommand is installed.
    pub(crate) fn succeeds(&self) -> bool {
        let mut command = self.command();
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn command(&self) -> Command {
        // The cargo that started this process; `cargo` from the search path when run by hand.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(&self.arguments).current_dir(workspace_root());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn not_started(&self, error: &std::io::Error) -> Failed {
        Failed::new(format!("could not start: {self}: {error}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(formatter, "{name}={} ", quoted(value))?;
        }
        formatter.write_str("cargo")?;
        for argument in &self.arguments {
            write!(formatter, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// A word as a shell reads it back unchanged.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The folder of the workspace's Cargo.toml.
pub(crate) fn workspace_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_prints_as_one_would_type_it() {
        let step = Step::cargo("doc  --no-deps")
            .environment("RUSTDOCFLAGS", "-D warnings")
            .arguments(&["it's".to_owned()]);
        assert_eq!(step.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[test]
    fn a_failing_step_keeps_the_exit_code_of_its_process() {
        let failed = Step::cargo("metadata --no-such-option").run().unwrap_err();
        assert_eq!(failed.exit_code, 1);
        let failed = Step::cargo("no-such-subcommand-of-cargo").run().unwrap_err();
        assert_eq!(failed.exit_code, 101, "{}", failed.message);
    }
}
