//! One writer, 1,000 subscribers of its path on as many sockets, against a bare broadcast of the
//! same frames; and how long after its acknowledgement a commit arrives.
//!
//! The writer has a few commits on their way and sends the next one when every subscriber has one
//! more, so that nobody falls behind and no frame is left out: each must arrive.

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::keys::{Random, value_text};
use crate::measure::{median, quantile};
use crate::process::{Server, processor_seconds};
use crate::report::{Report, Row};
use crate::settings::{Serve, Settings};
use crate::socket_client::Connection;

const GROUP: &str = "fan-out";
const SUBSCRIBERS: usize = 1_000;
const TARGET: f64 = 0.7;
const TARGET_P99_MS: f64 = 50.0;
/// Commits on their way.
const IN_FLIGHT: usize = 16;
/// Commits a second while latencies are taken.
const PACE: u32 = 50;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let data = settings.dir.join("fan-out");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let subscribers = if settings.quick { 50 } else { SUBSCRIBERS };
    let bare = Server::start(Serve::Broadcast, &settings.dir)?;
    let trellis = Server::start(Serve::Trellis, &data)?;
    let time = Duration::from_millis(if settings.quick { 200 } else { 4_000 });
    let mut bare_side = Side::open(&bare, subscribers)?;
    let mut trellis_side = Side::open(&trellis, subscribers)?;
    // Wakes both.
    bare_side.rate(time / 4)?;
    trellis_side.rate(time / 4)?;
    let (mut ours, mut rival) = (Rates::default(), Rates::default());
    for _ in 0..settings.rounds {
        rival.add(&bare_side.rate(time)?);
        ours.add(&trellis_side.rate(time)?);
    }
    let name = format!("1 writer, {subscribers} subscribers, vs a bare broadcast");
    let both = (&*ours.frames_a_second, &*rival.frames_a_second);
    let row = Row::ratio(GROUP, name, "frames/s", both, Some(TARGET));
    report.push(row.note(format!(
        "{IN_FLIGHT} commits on their way; {ours}; bare broadcast {rival}; both with the client"
    )));

    let commits = if settings.quick { 10 } else { 500 };
    let (mut ours, mut rival) = (Latencies::default(), Latencies::default());
    for _ in 0..settings.rounds.min(3) {
        rival.add(&bare_side.latencies(commits)?);
        ours.add(&trellis_side.latencies(commits)?);
    }
    let name = format!("acknowledgement to arrival, {PACE} commits/s, p99");
    let row = Row::bound(GROUP, name, "ms", &ours.p99, Some(TARGET_P99_MS));
    let (p50, most) = (median(&ours.p50), quantile(&ours.most, 1.0));
    let bare = (median(&rival.p50), median(&rival.p99));
    report.push(row.note(format!(
        "p50 {p50:.1}, the last of all {most:.0} ms; bare broadcast p50 {:.1}, p99 {:.1} ms",
        bare.0, bare.1
    )));
    Ok(())
}

/// What the clients saw in a time.
struct Rate {
    frames: usize,
    reads: usize,
    seconds: f64,
    /// Of the server and the clients.
    cpu_seconds: f64,
}

/// One value a round.
#[derive(Debug, Default)]
struct Rates {
    frames_a_second: Vec<f64>,
    frames_a_read: Vec<f64>,
    cpu_nanoseconds_a_frame: Vec<f64>,
}

impl Rates {
    fn add(&mut self, round: &Rate) {
        let frames = round.frames as f64;
        self.frames_a_second.push(frames / round.seconds);
        self.frames_a_read.push(frames / round.reads as f64);
        self.cpu_nanoseconds_a_frame.push(round.cpu_seconds * 1e9 / frames);
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, cpu) = (median(&self.frames_a_read), median(&self.cpu_nanoseconds_a_frame));
        write!(f, "{read:.1} frames a read, {cpu:.0} ns of a processor a frame")
    }
}

/// Milliseconds, one value a round.
#[derive(Debug, Default)]
struct Latencies {
    p50: Vec<f64>,
    p99: Vec<f64>,
    most: Vec<f64>,
}

impl Latencies {
    fn add(&mut self, round: &[f64]) {
        self.p50.push(quantile(round, 0.5));
        self.p99.push(quantile(round, 0.99));
        self.most.push(quantile(round, 1.0));
    }
}

/// The clients of one server.
struct Side<'a> {
    server: &'a Server,
    writer: Connection,
    subscribers: Vec<Subscriber>,
    /// Commits that were sent.
    sent: usize,
    random: Random,
}

struct Subscriber {
    connection: Connection,
    received: usize,
    last_rev: u64,
}

impl<'a> Side<'a> {
    fn open(server: &'a Server, subscribers: usize) -> Result<Self> {
        let subscriber = |_| Subscriber::open(server.port);
        Ok(Self {
            server,
            writer: Connection::open(server.port)?,
            subscribers: (0..subscribers).map(subscriber).collect::<Result<_>>()?,
            sent: 0,
            random: Random::new(9),
        })
    }

    /// One thread goes round the subscribers: whoever lacks a frame is read.
    fn rate(&mut self, time: Duration) -> Result<Rate> {
        let (begin, cpu_before) = (Instant::now(), self.cpu_seconds()?);
        let (mut frames, mut reads, before) = (0, 0, self.sent);
        self.send(IN_FLIGHT)?;
        while begin.elapsed() < time {
            let (more_frames, more_reads) = self.round()?;
            (frames, reads) = (frames + more_frames, reads + more_reads);
            let least = self.subscribers.iter().map(|one| one.received).min().unwrap_or(0);
            self.send((least + IN_FLIGHT).saturating_sub(self.sent))?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let cpu_seconds = self.cpu_seconds()? - cpu_before;
        while self.subscribers.iter().any(|one| one.received < self.sent) {
            self.round()?;
        }
        self.acknowledged(self.sent - before)?;
        Ok(Rate { frames, reads, seconds, cpu_seconds })
    }

    fn cpu_seconds(&self) -> Result<f64> {
        Ok(processor_seconds(self.server.pid())? + processor_seconds(std::process::id())?)
    }

    fn send(&mut self, count: usize) -> Result<()> {
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            requests.push(write(&mut self.random));
        }
        self.sent += count;
        self.writer.send_texts(&requests)
    }

    /// Reads once from each that lacks a frame: frames and reads.
    fn round(&mut self) -> Result<(usize, usize)> {
        let (mut frames, mut reads) = (0, 0);
        for one in self.subscribers.iter_mut().filter(|one| one.received < self.sent) {
            frames += one.receive()?;
            reads += 1;
        }
        Ok((frames, reads))
    }

    fn acknowledged(&mut self, count: usize) -> Result<()> {
        let mut answers = 0;
        while answers < count {
            answers += self.writer.receive_texts(&mut is_acknowledgement)?;
        }
        Ok(())
    }

    /// Milliseconds from each acknowledgement to each arrival; below zero counts as zero.
    fn latencies(&mut self, commits: usize) -> Result<Vec<f64>> {
        let (sender, acknowledged) = mpsc::channel();
        let Self { writer, subscribers, sent, random, .. } = self;
        let arrivals = std::thread::scope(|scope| {
            let writing = scope.spawn(move || -> Result<()> {
                let begin = Instant::now();
                for number in 0..u32::try_from(commits)? {
                    let due = begin + Duration::from_secs(1) / PACE * number;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    writer.send_texts(&[write(random)])?;
                    while writer.receive_texts(&mut is_acknowledgement)? == 0 {}
                    sender.send(Instant::now())?;
                }
                Ok(())
            });
            let mut arrivals = Vec::with_capacity(commits);
            for _ in 0..commits {
                *sent += 1;
                let mut of_commit = Vec::with_capacity(subscribers.len());
                for one in subscribers.iter_mut() {
                    while one.received < *sent {
                        one.receive()?;
                    }
                    of_commit.push(Instant::now());
                }
                arrivals.push(of_commit);
            }
            writing.join().map_err(|_| "the writer panicked")??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(arrivals)
        })?;
        let mut latencies = Vec::new();
        for (arrived, acknowledged) in arrivals.iter().zip(acknowledged) {
            let late = |at: &Instant| at.saturating_duration_since(acknowledged);
            latencies.extend(arrived.iter().map(|at| late(at).as_secs_f64() * 1_000.0));
        }
        Ok(latencies)
    }
}

fn write(random: &mut Random) -> String {
    let value = value_text(random);
    format!(r#"{{"id":"w","op":"set","path":"feed/now","value":"{value}"}}"#)
}

fn is_acknowledgement(text: &[u8]) -> Result<()> {
    if text.starts_with(br#"{"id":"w","ok":true"#) {
        return Ok(());
    }
    Err(format!("an odd answer: {}", String::from_utf8_lossy(text)).into())
}

impl Subscriber {
    fn open(port: u16) -> Result<Self> {
        let mut connection = Connection::open(port)?;
        connection.send_texts(&[r#"{"id":"1","op":"sub","path":"feed/now"}"#.to_owned()])?;
        let mut check = |text: &[u8]| match text.starts_with(br#"{"id":"1","ok":true"#) {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(text).into()),
        };
        while connection.receive_texts(&mut check)? == 0 {}
        Ok(Self { connection, received: 0, last_rev: 0 })
    }

    /// Reads once; each frame must be of the next commit but for those of nobody's request.
    fn receive(&mut self) -> Result<usize> {
        const HEAD: &[u8] = br#"{"sub":"1","rev":"#;
        let last_rev = &mut self.last_rev;
        let frames = self.connection.receive_texts(&mut |text| {
            let digits = text.strip_prefix(HEAD).unwrap_or_default();
            let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
            let rev = digits.fold(0, |rev, digit| rev * 10 + u64::from(digit - b'0'));
            if rev <= *last_rev {
                let text = String::from_utf8_lossy(text);
                return Err(format!("an odd frame after rev {last_rev}: {text}").into());
            }
            *last_rev = rev;
            Ok(())
        })?;
        self.received += frames;
        Ok(frames)
    }
}
