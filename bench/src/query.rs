//! An indexed query for 50 of the children against what it cannot do without: a scan of 50 entries
//! of an index and 50 gets, on the bare engine; and how fast an index is built.

use std::hint::black_box;
use std::time::{Duration, Instant};

use trellis_query::{Answer, FIELD_INDEXES, IndexDefinition, Queries, QuerySpec, create_index};
use trellis_tree::{Commit, Input, Operation, Path, Tree, TreeOptions};

use crate::engine::open_tree;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::once;
use crate::measure::median;
use crate::raw_engine::RawEngine;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::{Result, raw};

const GROUP: &str = "query";
/// Children that a query finds.
const FOUND: usize = 50;
const TARGET_MS: f64 = 5.0;
/// At most three times the raw time.
const TARGET: f64 = 1.0 / 3.0;
const LOAD_CHILDREN: usize = 1_000;
const QUERIES: usize = 200;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for kv in settings.engines() {
        let tree = loaded(settings, kv)?;
        let raw =
            raw::loaded_with(settings, kv, "query", &mut |engine| load_raw(settings, engine))?;
        let kv = kv.name();
        let built = build(settings, &tree)?;
        if let Some(seconds) = built {
            let rate = [settings.keys as f64 / seconds];
            report.push(Row::bound(
                GROUP,
                format!("{kv}, an index is built"),
                "items/s",
                &rate,
                None,
            ));
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=settings.rounds {
            let mut random = Random::new(round as u64 + 1);
            let groups: Vec<usize> = (0..QUERIES).map(|_| random.below(groups(settings))).collect();
            let one = raw_ms(settings, raw.as_ref(), &groups)?;
            let other = query_ms(settings, &tree, &groups)?;
            // The first round fills the caches.
            if round > 0 {
                theirs.push(1.0 / one);
                ours.push(1.0 / other);
            }
        }
        let name = format!("{kv}, {FOUND} of {} children by an index", settings.keys);
        let times: Vec<f64> = ours.iter().map(|rate| 1.0 / rate).collect();
        report.push(Row::bound(GROUP, name.clone(), "ms", &times, Some(TARGET_MS)));
        let raw_ms = 1.0 / median(&theirs);
        let row = Row::ratio(GROUP, name, "queries/ms", (&ours, &theirs), Some(TARGET));
        report.push(row.note(format!("{FOUND} entries and {FOUND} gets take {raw_ms:.3} ms")));
        tree.close()?;
    }
    Ok(())
}

fn groups(settings: &Settings) -> usize {
    (settings.keys / FOUND).max(1)
}

/// Each group is spread over all keys.
fn child(settings: &Settings, group: usize, number: usize) -> usize {
    number * groups(settings) + group
}

fn options() -> TreeOptions {
    TreeOptions { derivation: Some(&FIELD_INDEXES), ..TreeOptions::default() }
}

/// A tree whose children `people/<n>` have a name and the number of their group.
fn loaded(settings: &Settings, kv: Kv) -> Result<Tree> {
    let name = format!("query-{}-{}", kv.name(), settings.keys);
    let dir = settings.dir.join(&name);
    once(&dir, || {
        let begin = Instant::now();
        let tree = open_tree(settings, kv, &dir, TreeOptions::default())?;
        let mut random = Random::new(1);
        let numbers: Vec<usize> = (0..settings.keys).collect();
        for some in numbers.chunks(LOAD_CHILDREN) {
            let updates = some.iter().map(|number| {
                let (group, name) = (number % groups(settings), keys::value_text(&mut random));
                let json = format!("{{\"group\":{group},\"name\":\"{name}\"}}");
                let path = Path::parse(&format!("people/{number:010}"))?;
                Ok((path, Input::parse(json.as_bytes())?))
            });
            let updates = updates.collect::<trellis_engine_traits::Result<Vec<_>>>()?;
            tree.commit(Commit::new(vec![Operation::Update { updates, expiry: None }]))?;
        }
        tree.close()?;
        eprintln!("{name}: loaded in {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    })?;
    open_tree(settings, kv, &dir, options())
}

/// Builds the index, if it is not there from an earlier run; answers the seconds.
fn build(settings: &Settings, tree: &Tree) -> Result<Option<f64>> {
    let json = serde_json::json!({ "path": "people", "fields": ["group"] });
    let begin = Instant::now();
    let index = create_index(tree, &IndexDefinition::from_json(&json)?)?;
    if index.ready {
        return Ok(None);
    }
    if !tree.wait_for_index(&index.id, Duration::from_secs(3_600))? {
        return Err(format!("no index over {} children after an hour", settings.keys).into());
    }
    tree.flush()?;
    Ok(Some(begin.elapsed().as_secs_f64()))
}

fn raw_data_key(number: usize) -> Vec<u8> {
    format!("d people {number:010}").into_bytes()
}

fn raw_index_key(group: usize, number: usize) -> Vec<u8> {
    format!("i people {group:010} {number:010}").into_bytes()
}

/// One pair for a child, one for its entry in the index.
fn load_raw(settings: &Settings, engine: &mut dyn RawEngine) -> Result<()> {
    let mut random = Random::new(1);
    let numbers: Vec<usize> = (0..settings.keys).collect();
    for some in numbers.chunks(10 * LOAD_CHILDREN) {
        let data = some.iter().map(|it| (raw_data_key(*it), keys::raw_value(&mut random)));
        engine.commit(&data.collect::<Vec<_>>())?;
    }
    let all: Vec<usize> = (0..groups(settings)).collect();
    for some in all.chunks(LOAD_CHILDREN / 5) {
        let entries = some.iter().flat_map(|group| {
            (0..FOUND).map(move |number| {
                (raw_index_key(*group, child(settings, *group, number)), vec![0; 6])
            })
        });
        engine.commit(&entries.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Milliseconds of one query.
fn query_ms(settings: &Settings, tree: &Tree, groups: &[usize]) -> Result<f64> {
    let queries = Queries::new(tree);
    let found = FOUND.min(settings.keys);
    let begin = Instant::now();
    for group in groups {
        let json = format!("{{\"path\":\"people\",\"where\":[[\"group\",\"=\",{group}]]}}");
        let spec = QuerySpec::parse(json.as_bytes())?;
        let answer = queries.run(&tree.view()?, &spec, 1 << 20)?;
        let Answer::Page(page) = &answer else { return Err("the answer is no page".into()) };
        if page.items.len() != found {
            return Err(format!("{} children were found", page.items.len()).into());
        }
        black_box(answer.to_json());
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0 / groups.len() as f64)
}

fn raw_ms(settings: &Settings, engine: &dyn RawEngine, groups: &[usize]) -> Result<f64> {
    let mut out = Vec::new();
    let begin = Instant::now();
    for group in groups {
        let (start, end) = (raw_index_key(*group, 0), raw_index_key(group + 1, 0));
        let (pairs, _) = engine.scan(&start, &end)?;
        let keys = (0..pairs).map(|number| raw_data_key(child(settings, *group, number)));
        engine.get_all(&keys.collect::<Vec<_>>(), &mut out)?;
        black_box(&out);
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0 / groups.len() as f64)
}
