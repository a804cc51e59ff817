//! Tidy rule for the modules of a crate: none of them name each other in a circle.
//!
//! Who names whom is read from `use` and from paths that begin with `crate::` or `super::`, as
//! text; tests are left out. A folder is one thing: what its modules take from its `mod.rs`, or
//! from a `main.rs`, does not count, as that file lists them. What a library's modules take from
//! its front, `lib.rs`, does: each name is taken from the module that it is in.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{Finding, SourceFile, assert_rule};

/// Segments below the crate; empty for its root.
type Module = Vec<String>;

/// The modules of one crate: its files, and whom each names.
#[derive(Default)]
struct Crate<'a> {
    files: BTreeMap<Module, &'a SourceFile>,
    is_library: bool,
}

pub(crate) fn modules_name_no_circle(files: &[SourceFile]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Crate<'_>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((folder, inside)) = file.path.split_once("/src/") else { continue };
        let known = crates.entry(folder).or_default();
        known.is_library |= inside == "lib.rs";
        known.files.insert(module_of(inside), file);
    }
    crates.values().flat_map(Crate::findings).collect()
}

fn module_of(inside: &str) -> Module {
    let mut module: Module = inside.trim_end_matches(".rs").split('/').map(String::from).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

impl Crate<'_> {
    fn findings(&self) -> Vec<Finding> {
        let tests = self.test_modules();
        let counts = |module: &Module| {
            let is_test = module.last().is_some_and(|name| name.ends_with("tests"));
            !is_test && !tests.iter().any(|test| module.starts_with(test))
        };
        let named: BTreeMap<&Module, BTreeSet<&Module>> = self
            .files
            .keys()
            .filter(|module| counts(module))
            .map(|module| (module, self.named_by(module).into_iter().filter(|at| counts(at))))
            .map(|(module, named)| (module, named.collect()))
            .collect();
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            named.keys().map(|module| (*module, reached_from(module, &named))).collect();
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        for (module, others) in &reached {
            let back =
                |other: &&&Module| reached.get(**other).is_some_and(|to| to.contains(module));
            let circle: Vec<&Module> = others.iter().filter(back).copied().collect();
            if circle.len() < 2 || !told.insert(circle.clone()) {
                continue;
            }
            let names: Vec<String> = circle.iter().map(|one| spelled(one)).collect();
            let message = format!(
                "modules that name each other in a circle: {}; put what they share into a module \
                 below them",
                names.join(", ")
            );
            findings.extend(self.files.get(*module).map(|file| Finding::new(file, 0, message)));
        }
        findings
    }

    /// Modules that are declared for tests only.
    fn test_modules(&self) -> Vec<Module> {
        let mut tests = Vec::new();
        for (module, file) in &self.files {
            let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
            for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
                let name = pair[1].trim_start_matches("pub ").strip_prefix("mod ");
                if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                    tests.push([&module[..], &[name.to_owned()]].concat());
                }
            }
        }
        tests
    }

    fn named_by(&self, module: &Module) -> BTreeSet<&Module> {
        let text = self.files.get(module).map_or("", |file| &file.text);
        let paths = paths_in(text).into_iter().filter_map(|path| self.resolve(module, &path));
        let is_above =
            |other: &Module| module.starts_with(other) && !(other.is_empty() && self.is_library);
        paths.filter(|other| *other != module && !is_above(other)).collect()
    }

    /// The module that a path leads into, if it is of this crate.
    fn resolve(&self, module: &Module, path: &[String]) -> Option<&Module> {
        let mut at = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|step| step == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            child if self.files.contains_key(&[&at[..], &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        at.extend_from_slice(rest);
        while !at.is_empty() && !self.files.contains_key(&at) {
            at.pop();
        }
        self.files.get_key_value(&at).map(|(known, _)| known)
    }
}

fn spelled(module: &Module) -> String {
    if module.is_empty() { "the crate's root".to_owned() } else { module.join("::") }
}

fn reached_from<'m>(
    module: &'m Module,
    named: &BTreeMap<&'m Module, BTreeSet<&'m Module>>,
) -> BTreeSet<&'m Module> {
    let mut reached = BTreeSet::new();
    let mut left = vec![module];
    while let Some(next) = left.pop() {
        for other in named.get(next).into_iter().flatten() {
            if reached.insert(*other) {
                left.push(other);
            }
        }
    }
    reached
}

/// The paths that a file names: whole trees of `use`, and what begins with `crate::` or `super::`.
fn paths_in(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut open_use = String::new();
    // Where `mod x {` stands inside the file, `super` is the file itself.
    let mut inline: Option<usize> = None;
    let lines: Vec<&str> =
        text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        if code.starts_with("#[cfg(test)]") && lines.get(at + 1).is_some_and(|next| opens(next)) {
            break;
        }
        if inline.is_none() && opens(code) {
            inline = Some(indent);
        } else if inline == Some(indent) && code == "}" {
            inline = None;
        }
        if open_use.is_empty() && !is_use(code) {
            let is_own = |path: &Vec<String>| inline.is_none() || path[0] != "super";
            paths.extend(inline_paths(code).into_iter().filter(is_own));
            continue;
        }
        open_use.push_str(code);
        if code.ends_with(';') {
            let tree = open_use.split_once("use ").map_or("", |(_, tree)| tree);
            if inline.is_none() || !tree.starts_with("super::") {
                expand(&[], tree.trim_end_matches(';'), &mut paths);
            }
            open_use.clear();
        }
    }
    paths
}

fn opens(line: &str) -> bool {
    let item = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    item.starts_with("mod ") && item.ends_with('{')
}

fn is_use(code: &str) -> bool {
    let item = if let Some(rest) = code.strip_prefix("pub") {
        rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start()
    } else {
        code
    };
    item.starts_with("use ")
}

fn expand(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree);
        let steps = name.split("::").map(|step| step.trim().to_owned());
        paths.push(before.iter().cloned().chain(steps.filter(|step| !step.is_empty())).collect());
        return;
    };
    let steps = head.split("::").map(|step| step.trim().to_owned());
    let before: Vec<String> =
        before.iter().cloned().chain(steps.filter(|step| !step.is_empty())).collect();
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                expand(&before, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        expand(&before, &inner[start..], paths);
    }
}

/// Paths within a line of code that begin with `crate::` or `super::`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_name = |byte: char| byte.is_alphanumeric() || byte == '_';
    let mut paths = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in code.match_indices(word) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|byte| is_name(byte) || byte == '$' || byte == ':') {
                continue;
            }
            let end = code[at..].find(|byte| !is_name(byte) && byte != ':');
            let path = &code[at..end.map_or(code.len(), |end| at + end)];
            let steps = path.split("::").filter(|step| !step.is_empty());
            paths.push(steps.map(str::to_owned).collect());
        }
    }
    paths
}

#[test]
fn no_modules_name_each_other_in_a_circle() {
    assert_rule("modules_name_no_circle");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        modules_name_no_circle(&files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        for back in ["use crate::{x::{self, Y}, one};", "fn f(_: &crate::one::One) {}"] {
            let found = circles(&[
                ("a/src/lib.rs", "mod one;\nmod two;\nmod x;\n"),
                ("a/src/one.rs", "use super::two::Two;\n"),
                ("a/src/two.rs", back),
                ("a/src/x.rs", ""),
            ]);
            assert_eq!(found.len(), 1, "{back}: {found:?}");
            assert!(found[0].contains(": one, two;"), "{found:?}");
        }
    }

    #[test]
    fn the_front_of_a_library_is_no_place_to_take_names_from() {
        let files = |taken| {
            [
                ("a/src/lib.rs", "mod one;\nmod two;\npub use one::One;\npub use two::Two;\n"),
                ("a/src/one.rs", ""),
                ("a/src/two.rs", taken),
            ]
        };
        assert_eq!(circles(&files("use crate::One;\n")).len(), 1);
        assert!(circles(&files("use crate::one::One;\n")).is_empty());
    }

    #[test]
    fn tests_and_what_a_folder_takes_from_its_own_file_do_not_count() {
        let found = circles(&[
            ("a/src/lib.rs", "mod kind;\nmod one;\n#[cfg(test)]\nmod trial;\n"),
            ("a/src/kind/mod.rs", "mod first;\nuse first::CASES;\n"),
            ("a/src/kind/first.rs", "use super::World;\n"),
            ("a/src/one.rs", "#[cfg(test)]\nmod tests {\n    use crate::trial::T;\n}\n"),
            ("a/src/trial.rs", "use crate::one::One;\n"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
