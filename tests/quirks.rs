//! The table of CA quirks in docs/guides/cas.md lists the same quirks as the tags in the code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A CA's name, and a file under `src`.
type Quirk = (String, String);

/// Adds the tags of all files in a folder.
fn tags(root: &Path, folder: &Path, found: &mut BTreeSet<Quirk>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tags(root, &path, found);
            continue;
        }
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        for tag in fs::read_to_string(&path).unwrap().split("CA quirk").skip(1) {
            let names = tag.strip_prefix(" (").and_then(|tag| tag.split_once("):"));
            let (names, _) = names.unwrap_or_else(|| panic!("{file}: a tag without a CA"));
            found.extend(names.split(", ").map(|name| (name.to_owned(), file.clone())));
        }
    }
}

#[test]
fn the_table_of_quirks_lists_each_tag_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tagged = BTreeSet::new();
    tags(&root.join("src"), &root.join("src"), &mut tagged);
    let page = fs::read_to_string(root.join("docs/guides/cas.md")).unwrap();
    let section = page.split("## For developers").nth(1).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let listed: BTreeSet<Quirk> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[1].to_owned(), cells[2].trim_matches('`').to_owned())
        })
        .collect();
    let without_row: Vec<_> = tagged.difference(&listed).collect();
    let without_tag: Vec<_> = listed.difference(&tagged).collect();
    assert!(without_row.is_empty(), "tags without a row in docs/guides/cas.md: {without_row:?}");
    assert!(without_tag.is_empty(), "rows of docs/guides/cas.md without a tag: {without_tag:?}");
    assert!(tagged.len() > 10, "the test reads nothing");
}
