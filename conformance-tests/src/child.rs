//! A child process that writes and is killed, or writes into files that may not grow.
//!
//! The child says on its standard output what was acknowledged to it, a line each; what it said
//! is what the parent may rely on after the kill.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::Rng;

/// Says one line to the parent; without a parent there is nobody to write for.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A number that the parent put into the child's environment.
pub(crate) fn told(name: &str) -> u64 {
    let text = std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the parent"));
    text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

/// Rounds of a crash case: `usual`, or what `TRELLIS_CRASH_ROUNDS` says.
///
/// # Panics
/// When `TRELLIS_CRASH_ROUNDS` is no number above 0.
pub(crate) fn rounds(usual: usize) -> usize {
    let Ok(text) = std::env::var("TRELLIS_CRASH_ROUNDS") else { return usual };
    let rounds = text.trim().parse().ok().filter(|rounds| *rounds > 0);
    rounds.expect("TRELLIS_CRASH_ROUNDS is a number above 0")
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().expect("the child starts")
}

/// Runs the child until it has said a random number of lines, at most `lines_most`; kills it a
/// random moment later. Answers everything that it said.
pub(crate) fn run_and_kill(command: Command, rng: &mut Rng, lines_most: usize) -> Vec<String> {
    let mut child = start(command);
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let wanted = 1 + rng.below(lines_most);
    let mut said = String::new();
    for line in 0..wanted {
        let length = out.read_line(&mut said).expect("the child's output can be read");
        assert!(length > 0, "the child ended by itself after {line} of {wanted} lines: {said}");
    }
    for _ in 0..rng.below(200_000) {
        std::hint::spin_loop();
    }
    child.kill().expect("the child can be killed");
    out.read_to_string(&mut said).expect("the rest of the child's output");
    child.wait().expect("the child has ended");
    whole_lines(&said)
}

/// Runs the child to its end with files of at most `file_bytes_max`; answers what it said.
pub(crate) fn run_capped(command: &Command, file_bytes_max: u64) -> (ExitStatus, Vec<String>) {
    // The limit is the shell's, in blocks of 512 bytes; ignoring the signal turns a write beyond
    // it into an ordinary error, as on a full disk.
    let script = r#"trap '' XFSZ; ulimit -f "$1" || exit 99; shift; exec "$@""#;
    let mut capped = Command::new("sh");
    capped.args(["-c", script, "sh"]).arg((file_bytes_max / 512).to_string());
    capped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => capped.env(name, value),
            None => capped.env_remove(name),
        };
    }
    let mut child = start(capped);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("the child's output");
    let status = child.wait().expect("the child has ended");
    (status, whole_lines(&said))
}

/// The lines that were said to their end.
fn whole_lines(said: &str) -> Vec<String> {
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    whole.lines().map(str::to_owned).collect()
}
