//! What is watched: every kind of subscription, on places that the writers change all the time.

use crate::Rng;

/// What a subscription is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum About {
    Value,
    Child,
}

/// How much its events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Full,
    Patch,
    Notify,
}

/// Something that may be watched by many.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Topic {
    /// The path as it is asked for; `*` as a segment is a wildcard.
    pub(super) path: String,
    pub(super) about: About,
    pub(super) mode: Mode,
}

impl Topic {
    fn new(path: impl Into<String>, about: About, mode: Mode) -> Self {
        Self { path: path.into(), about, mode }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/')
    }

    pub(super) fn is_wild(&self) -> bool {
        self.segments().any(|segment| segment == "*")
    }

    /// The fields of the request that ask for it.
    pub(super) fn request(&self) -> String {
        let event = match self.about {
            About::Value => "value",
            About::Child => "child",
        };
        let mode = match self.mode {
            Mode::Full => "full",
            Mode::Patch => "patch",
            Mode::Notify => "notify",
        };
        format!(r#""path":"{}","event":"{event}","mode":"{mode}""#, self.path)
    }
}

/// The first topic: everything there is, and only that it changed. Each commit touches it.
pub(super) const EVERYTHING: usize = 0;

/// Every topic on so many places.
pub(super) fn topics(places: usize) -> Vec<Topic> {
    use {About::*, Mode::*};
    let mut topics = vec![Topic::new("*", Value, Notify)];
    let wild = [
        ("u/*", Value, Patch),
        ("u/*/n", Value, Full),
        ("u/*/p/*", Value, Full),
        ("r/*/t", Value, Full),
        ("u/*/p", Child, Patch),
        ("r/*/m", Child, Full),
        ("r/*/m", Child, Notify),
        ("r/*/m/*/text", Value, Full),
    ];
    topics.extend(wild.map(|(path, about, mode)| Topic::new(path, about, mode)));
    topics.push(Topic::new("u", Child, Patch));
    topics.push(Topic::new("c", Value, Patch));
    for place in 0..places {
        let single = [
            (format!("u/{place}"), Value, Full),
            (format!("u/{place}"), Value, Patch),
            (format!("u/{place}"), Value, Notify),
            (format!("u/{place}"), Child, Patch),
            (format!("u/{place}/p/x"), Value, Full),
            (format!("u/{place}/tags/0"), Value, Full),
            (format!("c/{place}"), Value, Full),
            (format!("r/{place}"), Value, Patch),
            (format!("r/{place}/t"), Value, Patch),
            (format!("r/{place}/m"), Child, Full),
            (format!("r/{place}/m"), Child, Patch),
        ];
        topics.extend(single.map(|(path, about, mode)| Topic::new(path, about, mode)));
    }
    topics
}

/// One of them: those with wildcards seldom, because every second commit touches them.
pub(super) fn draw(rng: &mut Rng, topics: &[Topic]) -> usize {
    let wide = topics.iter().take_while(|topic| !topic.path.starts_with("u/0")).count();
    if rng.one_in(25) { rng.below(wide) } else { wide + rng.below(topics.len() - wide) }
}

/// Values that nothing else has, on paths whose change everybody is told of: members of an object.
pub(super) fn fence(places: usize) -> String {
    const VALUE: &str = "1000000007";
    let mut members = Vec::new();
    for place in 0..places {
        members.push(format!(r#""u/{place}/tags":[{VALUE}]"#));
        let single = ["u/#/n", "u/#/p/x", "r/#/t", "r/#/m/fence/text", "c/#"];
        let path = |path: &str| path.replace('#', &place.to_string());
        members.extend(single.map(|single| format!(r#""{}":{VALUE}"#, path(single))));
    }
    members.join(",")
}
