//! Names the shared library: its SONAME carries the number of its ABI, not the crate's version.
//!
//! The shared library that is installed is linked by the Makefile, with symbol versions. This is for
//! those that are linked by rustc: the Python package's, which says the name, and says it only when it
//! builds the library, for Cargo warns about link arguments for a cdylib in every other build. cargo-c
//! sets the same one by itself.

#[allow(clippy::disallowed_methods)] // the environment is how a build is told things
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ACME_MICRO_SONAME");
    if let Ok(soname) = std::env::var("ACME_MICRO_SONAME") {
        println!("cargo::rustc-link-arg=-Wl,-soname,{soname}");
        // Relocations in a thirtieth of the room; needs glibc 2.36 (Debian 12) or musl 1.2.4 to load.
        // Who compiles OpenSSL in means to take the library elsewhere, to older systems too.
        if std::env::var_os("CARGO_FEATURE_VENDORED").is_none() {
            println!("cargo::rustc-link-arg=-Wl,-z,pack-relative-relocs");
        }
        // It stays when a program unloads it: a driver's threads may be at work still.
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
}
