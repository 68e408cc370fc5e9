//! System errors while the client opens and uses sockets: strace injects them.

use std::process::Command;
use std::thread;

use acme_micro::ErrorKind;

use super::{Folder, options, register};

/// Runs a test of this file again under strace. Returns strace's output.
fn under_strace(name: &str, arguments: &[&str], wanted: &str) -> String {
    let folder = Folder::new(&format!("strace-{}", arguments.concat().replace(['=', ':'], "-")));
    let trace = folder.file("trace", "");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-yy", "-o"])
        .arg(&trace)
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sockets::{name}")])
        .env("ACME_UNDER_STRACE", wanted)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{arguments:?}: {output:?}");
    std::fs::read_to_string(trace).unwrap()
}

#[test]
fn h33_socket_errors_of_the_system_are_transport_errors() {
    if let Ok(wanted) = std::env::var("ACME_UNDER_STRACE") {
        let error = register(&options(|_| {})).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Transport, false), "{error}");
        assert!(error.to_string().contains(&wanted), "{error}: not {wanted}");
        return;
    }
    thread::scope(|scope| {
        for (call, errno, says) in [
            ("socket", "EMFILE", "Too many open files"),
            ("socket", "ENFILE", "Too many open files in system"),
            ("socket", "ENOBUFS", "No buffer space available"),
            ("socket", "EAFNOSUPPORT", "Address family not supported by protocol"),
            ("connect", "ENETDOWN", "Network is down"),
            ("connect", "ENETUNREACH", "Network is unreachable"),
            ("connect", "EHOSTUNREACH", "No route to host"),
            ("connect", "EPERM", "Operation not permitted"),
            ("connect", "EADDRNOTAVAIL", "Cannot assign requested address"),
            ("sendto", "ENOBUFS", "No buffer space available"),
            ("recvfrom", "ENOMEM", "Cannot allocate memory"),
        ] {
            scope.spawn(move || {
                let inject = format!("inject={call}:error={errno}");
                let trace = format!("trace={call}");
                let name = "h33_socket_errors_of_the_system_are_transport_errors";
                let trace = under_strace(name, &["-e", &trace, "-e", &inject], says);
                assert!(trace.matches("(INJECTED)").count() >= 4, "{call} {errno}: {trace}");
            });
        }
    });
}

#[test]
fn h35_no_write_can_raise_sigpipe() {
    if std::env::var_os("ACME_UNDER_STRACE").is_some() {
        return register(&options(|_| {})).unwrap();
    }
    let name = "h35_no_write_can_raise_sigpipe";
    let trace = ["-e", "trace=write,writev,sendto,sendmsg,sendmmsg,sendfile,splice"];
    let trace = under_strace(name, &trace, "");
    let to_sockets: Vec<&str> = trace.lines().filter(|line| line.contains("<TCP:[")).collect();
    assert!(to_sockets.len() >= 4, "{trace}");
    for line in to_sockets {
        assert!(line.contains("sendto(") && line.contains("MSG_NOSIGNAL"), "{line}");
    }
}
