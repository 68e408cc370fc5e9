//! Names the shared library: its SONAME carries the number of its ABI, not the crate's version.
//!
//! The Makefile links the installed shared library, with symbol versions. This script is for shared
//! libraries that rustc links, as for the Python package. That package sets ACME_MICRO_SONAME, and
//! only when it builds the library, because Cargo warns about link arguments for a cdylib in every
//! other build. cargo-c sets the same SONAME by itself.

#[allow(clippy::disallowed_methods)] // a build script gets its input from the environment
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ACME_MICRO_SONAME");
    if let Ok(soname) = std::env::var("ACME_MICRO_SONAME") {
        println!("cargo::rustc-link-arg=-Wl,-soname,{soname}");
        // Relocations take a thirtieth of the space; loading needs glibc 2.36 (Debian 12) or musl
        // 1.2.4. A build with OpenSSL compiled in is meant for other systems, including older ones.
        if std::env::var_os("CARGO_FEATURE_VENDORED").is_none() {
            println!("cargo::rustc-link-arg=-Wl,-z,pack-relative-relocs");
        }
        // The library stays loaded after dlclose(): a driver's threads may still run.
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
}
