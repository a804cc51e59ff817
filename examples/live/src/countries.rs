//! Some countries: ISO 3166 codes, names, regions, and inhabitants in thousands, rounded.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const COUNTRIES: [(&str, &str, &str, u32); 48] = [
    ("AR", "Argentina", "Americas", 46_000),
    ("AT", "Austria", "Europe", 9_100),
    ("AU", "Australia", "Oceania", 26_600),
    ("BD", "Bangladesh", "Asia", 173_000),
    ("BE", "Belgium", "Europe", 11_800),
    ("BR", "Brazil", "Americas", 216_000),
    ("CA", "Canada", "Americas", 40_100),
    ("CH", "Switzerland", "Europe", 8_900),
    ("CL", "Chile", "Americas", 19_600),
    ("CN", "China", "Asia", 1_411_000),
    ("CO", "Colombia", "Americas", 52_100),
    ("CZ", "Czechia", "Europe", 10_900),
    ("DE", "Germany", "Europe", 84_500),
    ("DK", "Denmark", "Europe", 5_900),
    ("EG", "Egypt", "Africa", 112_700),
    ("ES", "Spain", "Europe", 48_400),
    ("ET", "Ethiopia", "Africa", 126_500),
    ("FI", "Finland", "Europe", 5_600),
    ("FR", "France", "Europe", 68_200),
    ("GB", "United Kingdom", "Europe", 68_400),
    ("GR", "Greece", "Europe", 10_400),
    ("ID", "Indonesia", "Asia", 277_500),
    ("IE", "Ireland", "Europe", 5_300),
    ("IN", "India", "Asia", 1_429_000),
    ("IR", "Iran", "Asia", 89_200),
    ("IT", "Italy", "Europe", 58_800),
    ("JP", "Japan", "Asia", 124_500),
    ("KE", "Kenya", "Africa", 55_100),
    ("KR", "Korea, Republic of", "Asia", 51_700),
    ("MA", "Morocco", "Africa", 37_800),
    ("MX", "Mexico", "Americas", 128_500),
    ("NG", "Nigeria", "Africa", 223_800),
    ("NL", "Netherlands", "Europe", 17_900),
    ("NO", "Norway", "Europe", 5_500),
    ("NZ", "New Zealand", "Oceania", 5_200),
    ("PE", "Peru", "Americas", 34_400),
    ("PH", "Philippines", "Asia", 117_300),
    ("PK", "Pakistan", "Asia", 240_500),
    ("PL", "Poland", "Europe", 36_700),
    ("PT", "Portugal", "Europe", 10_500),
    ("SE", "Sweden", "Europe", 10_500),
    ("TH", "Thailand", "Asia", 71_800),
    ("TR", "Turkey", "Asia", 85_300),
    ("TZ", "Tanzania", "Africa", 67_400),
    ("UA", "Ukraine", "Europe", 37_000),
    ("US", "United States", "Americas", 334_900),
    ("VN", "Viet Nam", "Asia", 98_900),
    ("ZA", "South Africa", "Africa", 60_400),
];

/// The codes, in order.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> + Clone {
    COUNTRIES.iter().map(|(code, ..)| *code)
}

/// What is known of a country.
pub(crate) fn country(code: &str) -> Option<Value> {
    let (_, name, region, thousands) = COUNTRIES.iter().find(|(own, ..)| *own == code)?;
    Some(json!({ "name": name, "region": region, "thousands": thousands }))
}

/// All of them, as one update.
pub(crate) fn all() -> BTreeMap<String, Value> {
    codes().filter_map(|code| Some((format!("countries/{code}"), country(code)?))).collect()
}
