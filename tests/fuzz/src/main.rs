//! All fuzz targets in one program, because one program is linked faster than many; `FUZZ_TARGET`
//! selects one. The targets themselves are in ../targets, a part of the library's own unit tests.

#![no_main]

use std::sync::OnceLock;

use acme_micro::fuzz::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() -> Target {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names = || TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    *found.unwrap_or_else(|| panic!("FUZZ_TARGET is to be one of: {}", names()))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (_, target) = CHOSEN.get_or_init(choose);
    target(data);
});
