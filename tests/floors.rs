//! The floors of docs/architecture.md: a file uses its own floor and those below, never one above, and no
//! files use each other in a circle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each floor, by the first part of their path: a folder of src/ each, and files of its root.
const FLOORS: [&[&str]; 11] = [
    &["base64url", "error", "header", "problem", "sys", "text", "time", "url"],
    &["pki"],
    &["jose"],
    &["resource", "request"],
    &["store"],
    &["engine"],
    &["manager"],
    &["clock", "folder", "transport"],
    &["blocking", "driver"],
    &["compat"],
    &["ffi"],
];

/// Paths that the engine and the floors below it never use.
const OUTSIDE: [&str; 7] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime::now",
];

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("{module} is on no floor: add it to tests/floors.rs"))
}

/// Every source file: its first module, its path and its text without the tests at its end.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, files),
                false => files.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let files = files.into_iter().filter(|path| !path.ends_with("lib.rs"));
    files
        .map(|path| {
            let first = path.strip_prefix(&root).unwrap().iter().next().unwrap();
            let module = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (module, path, without_tests(&text).to_owned())
        })
        .collect()
}

/// Returns the code above a file's unit tests.
fn without_tests(text: &str) -> &str {
    let tests = ["#[cfg(test)]\nmod tests", "#[cfg(test)]\npub(crate) mod tests"];
    let end = tests.iter().filter_map(|start| text.find(start)).min();
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn no_file_uses_a_floor_above_its_own() {
    let mut uses = 0;
    for (module, path, code) in sources() {
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        // These would hide what is used.
        for way_round in ["crate::{", "super::super::"] {
            assert!(!code.contains(way_round), "{}: {way_round}", path.display());
        }
        for part in code.split("crate::").skip(1) {
            let used: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // Re-exports at the crate's root are for users of the crate.
            assert!(
                !used.chars().next().is_none_or(char::is_uppercase),
                "{}: uses crate::{used} instead of the module that it comes from",
                path.display()
            );
            uses += 1;
            assert!(
                floor(&used) <= floor(&module),
                "{}: uses crate::{used}, which is above it",
                path.display()
            );
        }
    }
    assert!(uses > 100, "the test reads nothing");
}

#[test]
fn below_the_drivers_nothing_touches_the_world() {
    for (module, path, code) in sources().into_iter().filter(|(m, ..)| floor(m) <= floor("engine"))
    {
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        // Addresses are values; sockets are not.
        let code: String = lines.collect::<Vec<_>>().join("\n").replace("std::net::IpAddr", "");
        assert!(!code.contains("std::{"), "{}: a group hides what is used", path.display());
        for outside in OUTSIDE {
            assert!(!code.contains(outside), "{}: {module} has {outside}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_where_c_is_and_says_why() {
    let mut blocks = 0;
    for (module, path, code) in sources() {
        let lines: Vec<&str> = code.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            assert!(["ffi", "sys"].contains(&&*module), "{}:{}: unsafe", path.display(), n + 1);
            blocks += 1;
            let before = &lines[n.saturating_sub(4)..n];
            let why = before.iter().any(|line| line.contains("SAFETY:"));
            assert!(why, "{}:{}: unsafe without its reason", path.display(), n + 1);
        }
    }
    assert!(blocks > 10, "the test reads nothing");
}

/// A panic must not reach C: it would end the host. A function that uses neither guard() nor catch(), nor
/// a function made of them, may only read a value.
#[test]
fn f16_every_exported_function_goes_through_the_boundary() {
    const BOUNDARY: [&str; 4] = ["guard(", "catch(", "begin(", "write_body("];
    // None of these allocates more than a text, indexes, or runs code of the engine's flows.
    const HARMLESS: [&str; 6] =
        ["peek(", "release(", "borrowed(", "concat!(", "cfg!(", "last_error()"];
    let listed = include_str!("../abi/libacme-micro.symbols").lines();
    let listed: Vec<&str> = listed.map(|line| line.split(' ').next().unwrap()).collect();
    let mut seen = Vec::new();
    for (_, path, code) in sources().into_iter().filter(|(module, ..)| module == "ffi") {
        for part in code.split("#[unsafe(no_mangle)]").skip(1) {
            let function = &part[..part.find("\n}\n").unwrap()];
            let name =
                function.split("extern \"C\" fn ").nth(1).unwrap().split('(').next().unwrap();
            seen.push(name.to_owned());
            let body = &function[function.find('{').unwrap()..];
            let guarded = BOUNDARY.iter().any(|way| body.contains(way));
            let plain = HARMLESS.iter().any(|way| body.contains(way)) || body.lines().count() <= 3;
            assert!(guarded || plain, "{}: {name} has no boundary", path.display());
            for way in
                [".unwrap()", ".expect(", "panic!", "assert!", "[0]", "[index]", " / ", " % "]
            {
                assert!(guarded || !body.contains(way), "{}: {name} has {way}", path.display());
            }
        }
    }
    seen.sort();
    assert_eq!(seen, listed);
}

/// The files of src/ as modules, and the names that each module re-exports.
struct Modules {
    /// The file of each module, by the module's path.
    files: BTreeMap<Vec<String>, String>,
    /// The paths that names of a module stand for.
    exports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

/// A path in a `use` line or in code, and the name that a `use` line gives it.
struct Used {
    path: Vec<String>,
    name: String,
    is_export: bool,
}

/// Returns the parts of a group of `use` paths: `a::{b, c::{d}}` has a::b and a::c::d.
fn expand(group: &str, prefix: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let (head, group) = match part.split_once('{') {
            Some((head, group)) => (head, Some(group.strip_suffix('}').unwrap())),
            None => (part, None),
        };
        let (head, alias) = head.split_once(" as ").unwrap_or((head, ""));
        let mut path = prefix.to_vec();
        path.extend(head.split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned));
        match group {
            Some(group) => expand(group, &path, found),
            None => {
                if path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let name = if alias.is_empty() { path.last().unwrap() } else { alias };
                found.push((path.clone(), name.to_owned()));
            }
        }
    }
}

/// Reads the paths in a file's `use` lines and in its code.
fn used_paths(code: &str) -> Vec<Used> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let (mut all, mut rest) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let begin = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].rsplit('\n').next().unwrap().trim();
            before.is_empty() || before.starts_with("pub")
        });
        let Some(at) = begin else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..at]);
        let is_export = statement[..at].rsplit('\n').next().unwrap().contains("pub");
        let mut found = Vec::new();
        expand(statement[at + 4..].trim_end_matches(';'), &[], &mut found);
        all.extend(found.into_iter().map(|(path, name)| Used { path, name, is_export }));
    }
    let words = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    for word in words {
        if word.contains("::") {
            let path: Vec<String> =
                word.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect();
            all.push(Used { path, name: String::new(), is_export: false });
        }
    }
    all
}

impl Modules {
    fn read(sources: &[(String, String)]) -> Modules {
        let mut modules = Modules { files: BTreeMap::new(), exports: BTreeMap::new() };
        for (file, _) in sources {
            modules.files.insert(module_path(file), file.clone());
        }
        for (file, code) in sources {
            let module = module_path(file);
            for used in used_paths(code).into_iter().filter(|used| used.is_export) {
                if let Some(path) = modules.absolute(&module, &used.path) {
                    modules.exports.insert((module.clone(), used.name), path);
                }
            }
        }
        modules
    }

    /// Returns a path from the crate's root; `None` for a path of another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (mut base, mut rest) = (module.to_vec(), path);
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                base.push(child.to_owned());
                if !self.files.contains_key(&base) {
                    return None;
                }
                base.pop();
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Returns the file that defines the item at a path.
    fn file_of(&self, path: &[String]) -> Option<&String> {
        let mut module = Vec::new();
        for (n, part) in path.iter().enumerate() {
            module.push(part.clone());
            if self.files.contains_key(&module) {
                continue;
            }
            module.pop();
            if let Some(exported) = self.exports.get(&(module.clone(), part.clone())) {
                let target = [exported, &path[n + 1..]].concat();
                return self.file_of(&target);
            }
            break;
        }
        self.files.get(&module)
    }

    /// Returns the files that a file uses. Re-exports by `mod.rs` are no uses.
    fn uses(&self, file: &str, code: &str) -> BTreeSet<String> {
        let module = module_path(file);
        let used = used_paths(code).into_iter();
        let used = used.filter(|used| !(used.is_export && file.ends_with("mod.rs")));
        let paths = used.filter_map(|used| self.absolute(&module, &used.path));
        let files = paths.filter_map(|path| self.file_of(&path).cloned());
        files.filter(|other| other != file).collect()
    }
}

/// Returns the path of the module in a file of src/.
fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Returns the number of arrows between files, and the circles among them.
fn circles(sources: &[(String, String)]) -> (usize, BTreeSet<BTreeSet<String>>) {
    let modules = Modules::read(sources);
    let arrows: BTreeMap<&String, BTreeSet<String>> =
        sources.iter().map(|(file, code)| (file, modules.uses(file, code))).collect();
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = arrows[from].iter().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file.clone()) {
                next.extend(&arrows[file]);
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|file| (*file, reach(file))).collect();
    let circle_of = |file: &String| -> BTreeSet<String> {
        reached[file].iter().filter(|other| reached[other].contains(file)).cloned().collect()
    };
    let found = arrows.keys().map(|file| circle_of(file)).filter(|circle| !circle.is_empty());
    (arrows.values().map(BTreeSet::len).sum(), found.collect())
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let sources: Vec<(String, String)> =
        sources().iter().map(|(_, path, code)| (name(path), code.clone())).collect();
    let (arrows, circles) = circles(&sources);
    assert!(arrows > 300, "the test reads {arrows} arrows only");
    assert!(circles.is_empty(), "these files use each other: {circles:#?}");
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let files = |parts: &[(&str, &str)]| -> Vec<(String, String)> {
        parts.iter().map(|(file, code)| ((*file).to_owned(), (*code).to_owned())).collect()
    };
    let (arrows, found) = circles(&files(&[
        ("a/mod.rs", "mod b;\nmod c;\npub use b::Thing;\n// use crate::d::X;\n"),
        ("a/b.rs", "use std::fmt;\nuse super::c::{self, Other as Else};\npub struct Thing;\n"),
        ("a/c.rs", "fn f(thing: crate::d::Far) {}\n"),
        ("d.rs", "use crate::a::Thing;\n"),
        ("e.rs", "use crate::d;\nuse crate::a::{Thing, c::Other};\n"),
    ]));
    assert_eq!(arrows, 6);
    let circle = ["a/b.rs", "a/c.rs", "d.rs"].map(str::to_owned).into_iter().collect();
    assert_eq!(found, BTreeSet::from([circle]));
    let (_, none) = circles(&files(&[
        ("a/mod.rs", "mod b;\nmod c;\npub use b::Thing;\npub use c::Other;\n"),
        ("a/b.rs", "use super::c::Other;\n"),
        ("a/c.rs", "pub struct Other;\n"),
    ]));
    assert!(none.is_empty(), "{none:?}");
}
