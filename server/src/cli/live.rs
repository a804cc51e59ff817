//! `trellis watch` and `trellis query`: what changes, and what there is.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use trellis::{Answer, Item, QuerySpec};
use trellis_client::{
    Change, ChangeKind, Changes, Client, ClientOptions, Query as ClientQuery, SubscribeKind,
    SubscribeMode, SubscribeOptions, SubscriptionEvent,
};

use crate::cli::failure::Failure;
use crate::cli::output::print_line;
use crate::cli::place::{Place, Running};
use crate::cli::target::Target;
use crate::query_text::TypedQuery;

/// Longest page of a closed database, in bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// Which items, in which order, how many.
#[derive(Debug, Args)]
pub(super) struct Items {
    /// Which items: 'age>=18', 'name starts-with A', 'country in DE,FR', 'email exists', or JSON;
    /// given again, both hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// In which order: 'age desc,name', or JSON; by key without it
    #[arg(long, value_name = "FIELDS")]
    order_by: Option<String>,
    /// At most so many items
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Only these fields: 'name,profile/age'
    #[arg(long, value_name = "FIELDS")]
    select: Option<String>,
}

/// Ask for children of a path: which, in which order, how many; a JSON line each
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trellis query users --where 'age>=18' --order-by 'age desc' --limit 10\n  \
    trellis query 'rooms/*/messages' --where 'author=\"u1\"' --count\n  \
    trellis query users --where 'age>=18' --explain")]
pub(super) struct Query {
    /// The path whose children are the items; * stands for any segment
    path: String,
    #[command(flatten)]
    items: Items,
    /// Begin behind the page that printed this cursor
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Print how many items there are
    #[arg(long)]
    count: bool,
    /// Print figures over the items: '{"groupBy":["country"],"sum":["age"]}'
    #[arg(long, value_name = "JSON", conflicts_with = "count")]
    aggregate: Option<String>,
    /// Print how the query would be answered
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    place: Place,
}

/// Print what changes at a path of a server, as it comes, across lost connections and restarts
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trellis watch users --event child\n  \
    trellis watch 'rooms/*/name' --json\n  \
    trellis watch users --where 'age>=18' --order-by age --limit 10")]
pub(super) struct Watch {
    /// The path; * stands for any segment
    path: String,
    /// What to tell of [default: value; query with --where, --order-by, --limit or --select]
    #[arg(long)]
    event: Option<EventName>,
    /// How much to tell: whole values, what changed in them, or only that something did
    #[arg(long, default_value = "full")]
    mode: ModeName,
    #[command(flatten)]
    items: Items,
    /// Print each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// End after so many events, the first snapshot among them
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,
    #[command(flatten)]
    server: Running,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EventName {
    Value,
    Child,
    Query,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Full,
    Patch,
    Notify,
}

impl Items {
    fn typed(&self) -> TypedQuery {
        TypedQuery {
            conditions: self.conditions.clone(),
            order_by: self.order_by.clone(),
            limit: self.limit,
            select: self.select.clone(),
            ..TypedQuery::default()
        }
    }
}

/// Runs `trellis query`.
pub(super) async fn query(arguments: Query) -> Result<(), Failure> {
    let Query { path, items, cursor, count, aggregate, explain, place } = arguments;
    let typed = TypedQuery { cursor, count, aggregate, ..items.typed() };
    let asked = typed.to_json(&path).map(Value::Object);
    let asked = asked.map_err(|error| Failure::Usage(error.message))?;
    let target = Target::open_to_read(&place).await?;
    if explain {
        let plan = match &target {
            Target::Server(client) => client.explain(&typed_query(asked)?).await?,
            Target::Local(db) => db.explain(&QuerySpec::from_json(&asked)?)?.0,
        };
        print_line(&format!("{plan:#}"))?;
        return target.close().await;
    }
    match &target {
        Target::Server(client) => {
            let answer = client.query(&typed_query(asked)?).await?;
            for item in &answer.items {
                print_line(&json_line(item)?)?;
            }
            if let Some(count) = answer.count {
                print_line(&count.to_string())?;
            }
            for group in &answer.groups {
                print_line(&group.to_string())?;
            }
            print_more(answer.next_cursor.as_deref());
        }
        Target::Local(db) => match db.query(&QuerySpec::from_json(&asked)?, PAGE_BYTES_MAX)?.answer
        {
            Answer::Page(page) => {
                for item in &page.items {
                    print_line(&item_line(item))?;
                }
                print_more(page.next_cursor.as_deref());
            }
            Answer::Totals(totals) => print_totals(&totals)?,
        },
    }
    target.close().await
}

fn typed_query(asked: Value) -> Result<ClientQuery, Failure> {
    serde_json::from_value(asked).map_err(|error| Failure::Usage(error.to_string()))
}

fn item_line(item: &Item) -> String {
    let value = item.value.as_deref().unwrap_or("null");
    let (path, key) = (json!(item.path.to_string()), json!(item.key()));
    format!("{{\"path\":{path},\"key\":{key},\"value\":{value}}}")
}

fn print_totals(totals: &Value) -> Result<(), Failure> {
    if let Some(count) = totals.get("count") {
        return print_line(&count.to_string());
    }
    for group in totals.get("groups").and_then(Value::as_array).into_iter().flatten() {
        print_line(&group.to_string())?;
    }
    Ok(())
}

fn print_more(cursor: Option<&str>) {
    if let Some(cursor) = cursor {
        eprintln!("there is more: --cursor {cursor}");
    }
}

/// Runs `trellis watch`, until it is interrupted or has printed enough.
pub(super) async fn watch(arguments: Watch) -> Result<(), Failure> {
    let typed = arguments.items.typed();
    let event = match arguments.event {
        None if typed.is_empty() => EventName::Value,
        None => EventName::Query,
        Some(EventName::Value | EventName::Child) if !typed.is_empty() => {
            return Err(Failure::Usage(
                "--where, --order-by, --limit and --select go with --event query only".to_owned(),
            ));
        }
        Some(event) => event,
    };
    let kind = match event {
        EventName::Value => SubscribeKind::Value,
        EventName::Child => SubscribeKind::Child,
        EventName::Query => {
            let asked = typed.to_json(&arguments.path).map(Value::Object);
            let asked = asked.map_err(|error| Failure::Usage(error.message))?;
            SubscribeKind::Query(typed_query(asked)?)
        }
    };
    let mode = match arguments.mode {
        ModeName::Full => SubscribeMode::Full,
        ModeName::Patch => SubscribeMode::Patch,
        ModeName::Notify => SubscribeMode::Notify,
    };
    let options = SubscribeOptions { kind, mode, ..SubscribeOptions::default() };
    let client = Client::connect(&arguments.server.url()?, ClientOptions::default()).await?;
    let mut subscription = client.subscribe(&arguments.path, options).await?;
    let mut left = arguments.events.unwrap_or(u64::MAX);
    while left > 0
        && let Some(event) = subscription.next().await
    {
        left -= 1;
        print_event(&event?, arguments.json)?;
    }
    drop(subscription);
    client.close().await;
    Ok(())
}

fn print_event(event: &SubscriptionEvent, as_json: bool) -> Result<(), Failure> {
    match event {
        SubscriptionEvent::Snapshot { data, rev } => print_data("snapshot", data, *rev, as_json),
        SubscriptionEvent::Reset { data, rev } => print_data("reset", data, *rev, as_json),
        SubscriptionEvent::Changes(changes) if as_json => print_line(&json_line(changes)?),
        SubscriptionEvent::Changes(changes) => {
            for change in &changes.changes {
                print_line(&human_line(changes, change))?;
            }
            Ok(())
        }
    }
}

fn print_data(what: &str, data: &Value, rev: u64, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_line(&json!({ "type": what, "rev": rev, "data": data }).to_string());
    }
    print_line(&format!("{rev}  {what}  {data}"))
}

/// `42  + u3 {"name":"Cleo"}`: the rev, a sign for what happened, where, and what is there now.
fn human_line(changes: &Changes, change: &Change) -> String {
    let sign = match change.kind {
        ChangeKind::Removed => '-',
        ChangeKind::Added => '+',
        ChangeKind::Moved => '>',
        ChangeKind::Changed => '~',
        ChangeKind::Value => '=',
    };
    let mut line = format!("{}  {sign}", changes.rev);
    if let Some(place) = change.path.as_ref().or(change.key.as_ref()) {
        line.push(' ');
        line.push_str(place);
    }
    if change.kind == ChangeKind::Moved {
        let after =
            change.after.as_deref().map_or("first".to_owned(), |key| format!("after {key}"));
        line.push_str(&format!(" {after}"));
    }
    if let Some(value) = &change.value {
        line.push_str(&format!(" {value}"));
    }
    for (path, value) in change.patch.iter().flatten() {
        line.push_str(&format!(" {path}={value}"));
    }
    if let Some(cause) = &changes.cause {
        line.push_str(&format!("  ({cause})"));
    }
    line
}

fn json_line<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))
}
