//! The table, and the same as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::Result;
use crate::measure::median;
use crate::settings::Settings;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    keys: usize,
    rounds: usize,
    cache_bytes: usize,
    quick: bool,
    rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    group: &'static str,
    name: String,
    unit: &'static str,
    /// Medians of the rounds.
    trellis: f64,
    rival: Option<f64>,
    /// The median of the rounds' own ratios, and the smallest and the largest of them.
    ratio: Option<[f64; 3]>,
    /// `at_least` is a ratio where there is a rival, else a value in the unit, as `at_most` is.
    at_least: Option<f64>,
    at_most: Option<f64>,
    rounds_trellis: Vec<f64>,
    rounds_rival: Vec<f64>,
    note: String,
}

impl Row {
    /// Trellis against a rival, round by round; more is better.
    pub(crate) fn ratio(
        group: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        (trellis, rival): (&[f64], &[f64]),
        at_least: Option<f64>,
    ) -> Self {
        let mut ratios: Vec<f64> = trellis.iter().zip(rival).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let first = ratios.first().copied().unwrap_or(0.0);
        let last = ratios.last().copied().unwrap_or(0.0);
        Self {
            group,
            name: name.into(),
            unit,
            trellis: median(trellis),
            rival: Some(median(rival)),
            ratio: Some([median(&ratios), first, last]),
            at_least,
            at_most: None,
            rounds_trellis: trellis.to_vec(),
            rounds_rival: rival.to_vec(),
            note: String::new(),
        }
    }

    /// A value that must stay small.
    pub(crate) fn bound(
        group: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        values: &[f64],
        at_most: Option<f64>,
    ) -> Self {
        Self {
            group,
            name: name.into(),
            unit,
            trellis: median(values),
            rival: None,
            ratio: None,
            at_least: None,
            at_most,
            rounds_trellis: values.to_vec(),
            rounds_rival: Vec::new(),
            note: String::new(),
        }
    }

    /// A rate that must be reached.
    pub(crate) fn at_least(
        group: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        values: &[f64],
        at_least: f64,
    ) -> Self {
        let row = Self::bound(group, name, unit, values, None);
        Self { at_least: Some(at_least), ..row }
    }

    /// The same with words at its end.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> &'static str {
        let met = match (self.at_least, self.at_most, self.ratio) {
            (Some(least), _, Some([ratio, ..])) => ratio >= least,
            (Some(least), _, None) => self.trellis >= least,
            (_, Some(most), _) => self.trellis <= most,
            _ => return "",
        };
        if met { "met" } else { "MISSED" }
    }

    fn target(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), _) if least < 1.0 => format!(">= {least:.2}"),
            (Some(least), _) => format!(">= {least}"),
            (_, Some(most)) => format!("<= {most}"),
            _ => String::new(),
        }
    }
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            keys: settings.keys,
            rounds: settings.rounds,
            cache_bytes: settings.cache_bytes,
            quick: settings.quick,
            rows: Vec::new(),
        }
    }

    /// Adds a figure and shows it at once.
    pub(crate) fn push(&mut self, row: Row) {
        eprint!("{}", line(&row));
        self.rows.push(row);
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| figure | unit | Trellis | rival | ratio (least, most) | target | | notes |\n\
             |---|---|---:|---:|---:|---:|---|---|\n",
        );
        for row in &self.rows {
            table.push_str(&line(row));
        }
        table
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

fn line(row: &Row) -> String {
    let mut line = String::new();
    let rival = row.rival.map_or(String::new(), number);
    let ratio = row.ratio.map_or(String::new(), |[ratio, least, most]| {
        format!("{ratio:.2} ({least:.2}, {most:.2})")
    });
    // Writing to a string does not fail.
    let _written = writeln!(
        line,
        "| {}: {} | {} | {} | {rival} | {ratio} | {} | {} | {} |",
        row.group,
        row.name,
        row.unit,
        number(row.trellis),
        row.target(),
        row.verdict(),
        row.note,
    );
    line
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                grouped.push(' ');
            }
            grouped.push(digit);
        }
        grouped
    } else {
        format!("{value:.2}")
    }
}
