//! The floors of docs/architecture.md: a file uses its own floor and those below, never one above.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each floor, by the first part of their path: a folder of src/ each, and files of its root.
const FLOORS: [&[&str]; 9] = [
    &["base64url", "error", "header", "problem", "text", "time", "url"],
    &["pki"],
    &["jose"],
    &["resource", "request"],
    &["engine"],
    &["clock", "transport"],
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
            // What stands at the crate's root is for users of the crate.
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
fn unsafe_code_is_in_the_c_layer_only_and_says_why() {
    let mut blocks = 0;
    for (module, path, code) in sources() {
        let lines: Vec<&str> = code.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            assert_eq!(module, "ffi", "{}:{}: unsafe", path.display(), n + 1);
            blocks += 1;
            let before = &lines[n.saturating_sub(4)..n];
            let why = before.iter().any(|line| line.contains("SAFETY:"));
            assert!(why, "{}:{}: unsafe without its reason", path.display(), n + 1);
        }
    }
    assert!(blocks > 10, "the test reads nothing");
}

/// A panic must not reach C: it would end the host. What does not go through guard(), catch() or what
/// is made of them may do no more than look at a value.
#[test]
fn f16_every_exported_function_goes_through_the_boundary() {
    const BOUNDARY: [&str; 4] = ["guard(", "catch(", "begin(", "answer_into("];
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
