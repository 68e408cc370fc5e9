//! include/acme_micro.h has to be what cbindgen makes of src/ffi/. `make header` writes it.

#![allow(clippy::expect_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_root_or_default(root);
    let builder = cbindgen::Builder::new().with_config(config);
    // The order in which a reader needs them.
    let files = [
        "status",
        "error",
        "next_try",
        "version",
        "log",
        "key",
        "csr",
        "cert",
        "types",
        "files",
        "store",
        "client",
        "begin",
        "authorization",
        "op",
        "op_response",
        "op_result",
        "run",
        "driver",
        "manager",
        "manager_poll",
    ];
    let builder = files.iter().fold(builder, |builder, file| {
        builder.with_src(root.join("src/ffi").join(file).with_extension("rs"))
    });
    let mut text = Vec::new();
    builder.generate().expect("cbindgen").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_committed_header_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/acme_micro.h");
    let generated = generated();
    if std::env::var_os("ACME_UPDATE_HEADER").is_some() {
        fs::write(&path, &generated).expect("write the header");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "include/acme_micro.h is stale: run `make header`");
}
