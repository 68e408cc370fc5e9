//! Runs the corpora as plain tests, without libFuzzer, so that earlier findings stay fixed.

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

/// Runs each file whole, truncated, and with some bytes changed.
#[test]
fn every_corpus_is_replayed() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for (path, data) in files {
            // The test's output shows this if it fails.
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

/// Runs whole operations with random bytes, most of them 0: the CA is correct except for some
/// responses. This runs more inputs than libFuzzer, which measures coverage. FUZZ_RUNS sets the
/// number of runs.
#[test]
fn the_engine_takes_whatever_comes() {
    let runs = std::env::var("FUZZ_RUNS").map_or(200, |runs| runs.parse().unwrap());
    let first = std::env::var("FUZZ_FIRST").map_or(0, |first| first.parse().unwrap());
    for seed in first..first + runs {
        let mut state: u64 = seed;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        // First the flags and the flow, then the decisions, with a random share of bad ones.
        let bad = random() % 40;
        let byte = |n: usize, random: u64| match n < 3 || (random >> 8) % 100 < bad {
            true => random as u8,
            false => 0,
        };
        let bytes: Vec<u8> = (0..400).map(|n| byte(n, random())).collect();
        // The test's output shows this if it fails.
        println!("seed {seed}");
        super::engine::obtain(&bytes);
        super::engine::account(&bytes);
    }
}
