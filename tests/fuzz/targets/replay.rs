//! The corpora as plain tests: what was once found stays found, without libFuzzer.

use std::fs;
use std::path::Path;

use super::TARGETS;

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Each file whole, cut short, and with a byte changed here and there.
#[test]
fn every_corpus_is_replayed() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for (path, data) in files {
            // Shown when the test fails.
            println!("{path}");
            target(&data);
            let steps = (data.len() / 4).max(1);
            for at in (0..data.len()).step_by(steps) {
                target(&data[..at]);
                let mut changed = data.clone();
                changed[at] ^= 0x55;
                target(&changed);
            }
        }
    }
}
