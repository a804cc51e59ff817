//! Data and queries at random, small enough that everything meets everything.

use serde_json::{Value, json};
use trellis_runtime::{Random, SeededRandom};

pub(crate) struct Draw(SeededRandom);

const KEYS: [&str; 10] = ["a", "a!", "ab", "b", "b0", "c", "k1", "k2", "ä", "*"];
const FIELDS: [&str; 6] = ["a", "b", "p/x", "p", "tags", "missing"];

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    /// From `TRELLIS_SEED`, else a new one.
    pub(crate) fn seeded() -> Self {
        let given = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::from(now.unwrap().subsec_nanos()) + u64::from(std::process::id())
        });
        println!("TRELLIS_SEED={seed}");
        Self::new(seed)
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    pub(crate) fn one<'a, T: ?Sized>(&self, of: &[&'a T]) -> &'a T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    pub(crate) fn key(&self) -> &'static str {
        self.one(&KEYS)
    }

    pub(crate) fn field(&self) -> &'static str {
        match self.below(10) {
            0 => "$key",
            1 => "$value",
            _ => self.one(&FIELDS),
        }
    }

    /// A value without members.
    pub(crate) fn leaf(&self) -> Value {
        let long = |last: &str| json!("x".repeat(255) + last);
        match self.below(18) {
            16.. => long(self.one(&["", "a", "b", "ab"])),
            0 => json!(false),
            1 => json!(true),
            2..=5 => json!(self.below(4)),
            6 => json!(0.5 + self.below(3) as f64),
            7 => json!(-1),
            8 => json!(9_007_199_254_740_993_i64),
            9..=11 => json!(self.one(&["", "a", "ab", "b"])),
            12 => long(self.one(&["", "a", "b", "ab"])),
            13 => json!({ ".bytes": self.one(&["", "YQ==", "YWI="]) }),
            14 => json!([self.below(3), self.one(&["a", "b"])]),
            _ => json!([1.0, [2]]),
        }
    }

    pub(crate) fn item(&self) -> Value {
        match self.below(10) {
            0 => self.leaf(),
            1 => json!({}),
            _ => {
                let mut item = json!({ "pad": { "x": 1, "y": 2 } });
                if self.below(4) == 0 {
                    // Enough that a walk jumps over it, in either direction.
                    let many = (0..40).map(|n| (format!("n{n}"), json!(n)));
                    item["pad"] = many.collect::<serde_json::Map<_, _>>().into();
                }
                for name in ["a", "b", "tags"] {
                    if self.below(4) > 0 {
                        item[name] = self.leaf();
                    }
                }
                match self.below(4) {
                    0 => item["p"] = self.leaf(),
                    1 => {}
                    _ => item["p"] = json!({ "x": self.leaf(), "z": self.leaf() }),
                }
                item
            }
        }
    }

    fn operand(&self, field: &str) -> Value {
        if field == "$key" { json!(self.key()) } else { self.leaf() }
    }

    fn condition(&self) -> Value {
        let field = self.field();
        let operators = ["=", "=", "=", "!=", "<", "<=", ">", ">=", "in", "between"];
        let others = ["starts-with", "contains", "exists", "absent"];
        let operator = if self.below(3) > 0 { self.one(&operators) } else { self.one(&others) };
        match operator {
            "exists" | "absent" => json!([field, operator]),
            "=" | "!=" if self.below(12) == 0 => json!([field, operator, null]),
            "starts-with" => json!([field, operator, self.one(&["", "a", "x", "xxx", "k"])]),
            "in" => {
                let some = (0..self.below(4)).map(|_| self.operand(field));
                let mut values: Vec<Value> = some.collect();
                if self.below(6) == 0 {
                    values.push(Value::Null);
                }
                json!([field, "in", values])
            }
            "between" => loop {
                let (from, to) = (self.operand(field), self.operand(field));
                let bytes = |value: &Value| value.is_object();
                if std::mem::discriminant(&from) == std::mem::discriminant(&to)
                    && bytes(&from) == bytes(&to)
                {
                    return json!([field, "between", [from, to]]);
                }
            },
            _ => json!([field, operator, self.operand(field)]),
        }
    }

    fn filter(&self, depth: u64) -> Value {
        if depth < 2 && self.below(5) == 0 {
            let parts: Vec<Value> = (0..=self.below(3)).map(|_| self.filter(depth + 1)).collect();
            return if self.below(3) == 0 {
                json!({ "and": parts })
            } else {
                json!({ "or": parts })
            };
        }
        self.condition()
    }

    /// A query on one of these paths, without limit.
    pub(crate) fn query(&self, paths: &[&str]) -> Value {
        let mut query = json!({ "path": self.one(paths) });
        let conditions: Vec<Value> = (0..self.below(4)).map(|_| self.filter(0)).collect();
        if !conditions.is_empty() {
            query["where"] = conditions.into();
        }
        let mut orders: Vec<Value> = Vec::new();
        for _ in 0..self.below(4) {
            let field = if self.below(4) == 0 { "$key" } else { self.field() };
            if orders.iter().all(|order| order[0] != field) {
                orders.push(json!([field, self.one(&["asc", "desc"])]));
            }
        }
        if !orders.is_empty() {
            query["orderBy"] = orders.into();
        }
        query
    }

    /// The definition of an index that may serve a query: the fields of some of its conditions,
    /// then those of its order, as they are or turned round.
    pub(crate) fn index_for(&self, query: &Value) -> Option<Value> {
        let mut fields: Vec<Value> = Vec::new();
        let mut add = |field: &str, descends: bool| {
            let named = |own: &Value| own[0] == field;
            if fields.len() < 4 && field != "$key" && !fields.iter().any(named) {
                fields.push(json!([field, if descends { "desc" } else { "asc" }]));
            }
        };
        for condition in query.get("where").and_then(Value::as_array).into_iter().flatten() {
            if let Some(field) = condition.get(0).and_then(Value::as_str)
                && self.below(4) > 0
            {
                add(field, self.below(2) == 0);
            }
        }
        let turned = self.below(2) == 0;
        for order in query.get("orderBy").and_then(Value::as_array).into_iter().flatten() {
            add(order[0].as_str().unwrap(), (order[1] == "desc") != turned);
        }
        let path = query["path"].as_str().unwrap();
        (!fields.is_empty()).then(|| json!({ "path": path, "fields": fields }))
    }

    /// Definitions of some indexes on these paths.
    pub(crate) fn indexes(&self, paths: &[&str]) -> Vec<Value> {
        let definitions = (0..self.below(4)).map(|_| {
            let mut fields: Vec<Value> = Vec::new();
            for _ in 0..=self.below(3) {
                let field = self.field();
                let named =
                    |own: &Value| *own == field || own.get(0).is_some_and(|own| own == field);
                if !fields.iter().any(named) {
                    let descends = self.below(4) == 0;
                    fields.push(if descends { json!([field, "desc"]) } else { json!(field) });
                }
            }
            json!({ "path": self.one(paths), "fields": fields })
        });
        definitions.collect()
    }
}
