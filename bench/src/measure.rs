//! Medians, percentiles and the load of many threads.

use std::time::{Duration, Instant};

use crate::Result;
use crate::keys::Random;

/// The middle value; of an even number, the upper one.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of all lies.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// How often a second `work` did what it says it did.
pub(crate) fn rate(work: impl FnOnce() -> Result<usize>) -> Result<f64> {
    let begin = Instant::now();
    let done = work()?;
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// Repeats `work` for a time and answers how often a second it was done.
pub(crate) fn rate_for(time: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    let mut done = 0_u64;
    while begin.elapsed() < time {
        work()?;
        done += 1;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// What one thread does again and again.
pub(crate) type Client<'a> = Box<dyn FnMut(&mut Random) -> Result<()> + Send + 'a>;

/// Threads that each wait for their own answer before they ask again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) threads: usize,
    /// Not counted: until then caches and buffers fill.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What a load achieved, after the warm-up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Achieved {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The worst single answer.
    pub(crate) max_ms: f64,
    /// Answers in the slowest whole second.
    pub(crate) slowest_second: f64,
}

impl Load {
    /// Runs `threads` clients until the time is over.
    pub(crate) fn run<'a>(
        &self,
        seed: u64,
        client: &(dyn Fn(usize) -> Result<Client<'a>> + Sync),
    ) -> Result<Achieved> {
        let begin = Instant::now();
        let samples = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|number| scope.spawn(move || self.one(begin, seed, number, client(number)?)))
                .collect();
            let mut samples = Vec::new();
            for thread in threads {
                let sampled = thread.join().map_err(|_| "a client panicked")?;
                samples.extend(sampled?);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(samples)
        })?;
        Ok(self.sum_up(&samples))
    }

    /// One thread's latencies (microseconds) with the millisecond in which each ended.
    fn one(
        &self,
        begin: Instant,
        seed: u64,
        number: usize,
        mut client: Client<'_>,
    ) -> Result<Vec<(u32, u32)>> {
        let mut random = Random::new(seed.wrapping_mul(1_000) + number as u64 + 1);
        let mut samples = Vec::new();
        let end = self.warm_up + self.measured;
        let mut before = begin.elapsed();
        while before < end {
            client(&mut random)?;
            let after = begin.elapsed();
            if after >= self.warm_up && after < end {
                let ended = (after - self.warm_up).as_millis();
                let took = (after - before).as_micros();
                samples.push((
                    u32::try_from(ended).unwrap_or(u32::MAX),
                    u32::try_from(took).unwrap_or(u32::MAX),
                ));
            }
            before = after;
        }
        Ok(samples)
    }

    fn sum_up(&self, samples: &[(u32, u32)]) -> Achieved {
        let mut took: Vec<f64> = samples.iter().map(|(_, took)| f64::from(*took)).collect();
        took.sort_by(f64::total_cmp);
        let seconds = usize::try_from(self.measured.as_secs()).unwrap_or(0).max(1);
        let mut by_second = vec![0.0; seconds];
        for (ended, _) in samples {
            if let Some(second) = by_second.get_mut(*ended as usize / 1_000) {
                *second += 1.0;
            }
        }
        let at = |share: f64| {
            let at = (took.len() as f64 * share) as usize;
            took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or(0.0) / 1_000.0
        };
        Achieved {
            per_second: samples.len() as f64 / self.measured.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            slowest_second: by_second.into_iter().fold(f64::INFINITY, f64::min),
        }
    }
}
