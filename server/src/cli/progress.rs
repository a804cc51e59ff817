//! A progress bar on standard error when that is a terminal, and the closing line.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// How far a transfer is.
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    done: &'static str,
}

impl Progress {
    /// Begins a transfer; `bytes` is its length where that is known.
    pub(super) fn begin(done: &'static str, bytes: Option<u64>) -> Self {
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} eta {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, started: Instant::now(), done }
    }

    /// The bar, for whoever moves the bytes.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Says how many leaves are done.
    pub(super) fn leaves(&self, leaves: u64) {
        self.bar.set_message(format!("{leaves} leaves"));
    }

    /// Says how many items are done, and where the next one is.
    pub(super) fn items(&self, items: u64, at: &str) {
        self.bar.set_message(format!("{items} items, at {at}"));
    }

    /// Removes the bar without a word.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Removes the bar and says what was done, how long it took and how fast it was.
    pub(super) fn finish(self, count: u64, what: &str) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        eprintln!("{} {count} {what} in {seconds:.2} s ({rate:.0} {what}/s)", self.done);
    }
}
