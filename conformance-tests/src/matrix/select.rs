//! Which combinations a run is asked for: `TRELLIS_MATRIX="kv=redb,sled log=segment"`.

/// What `TRELLIS_MATRIX` says: for each kind of engine the names that are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection(Vec<(String, Vec<String>)>);

impl Selection {
    /// Everything, unless the environment says otherwise.
    pub(super) fn from_env() -> Self {
        std::env::var("TRELLIS_MATRIX").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let axis = |part: &str| {
            let (kind, names) = part
                .split_once('=')
                .unwrap_or_else(|| panic!("TRELLIS_MATRIX is `kind=name,name ...`, not {part:?}"));
            (kind.to_owned(), names.split(',').map(str::to_owned).collect())
        };
        Self(text.split_whitespace().map(axis).collect())
    }

    /// Whether `combination` (`kv-redb+log-segment`) is asked for: each of its engines whose kind
    /// is named must be wanted, and one at least must be named.
    pub(super) fn wants(&self, combination: &str) -> bool {
        let mut named = self.0.is_empty();
        for engine in combination.split('+') {
            let (kind, name) = engine.split_once('-').unwrap_or((engine, ""));
            if let Some((_, names)) = self.0.iter().find(|(axis, _)| axis == kind) {
                if !names.iter().any(|wanted| wanted == name) {
                    return false;
                }
                named = true;
            }
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;

    #[test]
    fn a_selection_takes_what_it_names() {
        let all = Selection::parse("");
        assert!(all.wants("kv-redb") && all.wants("log-segment"));
        let some = Selection::parse("kv=redb,sled log=segment");
        assert!(some.wants("kv-redb") && some.wants("kv-sled") && some.wants("log-segment"));
        assert!(some.wants("kv-redb+log-segment") && !some.wants("kv-redb+log-memory"));
        assert!(!some.wants("kv-memory") && !some.wants("log-segment-small"));
        let one = Selection::parse("kv=redb");
        assert!(one.wants("log-kv+kv-redb") && one.wants("kv-redb+log-memory"));
        assert!(!one.wants("log-segment"));
        assert!(!Selection::parse("kv=none").wants("kv-redb"));
    }
}
