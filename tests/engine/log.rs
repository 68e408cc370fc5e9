//! The log in these tests. A process has one logger: this one checks that each line is fit for a
//! log, keeps it for the harness, and passes it to the hook that the test has set on its own
//! thread.

use std::cell::RefCell;

type Hook = Box<dyn FnMut(&str)>;

std::thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    /// Disables transcripts: they have tests of their own and would slow the others down.
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() != "acme_micro::transcript"
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args());
        assert!(line.len() < 8192 && !line.chars().any(char::is_control), "{line:?}");
        HOOK.with_borrow_mut(|hook| {
            if let Some(hook) = hook {
                hook(&line);
            }
        });
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// Logs everything from now on; a second call does no harm.
pub fn begin() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// Returns the lines that were logged on this thread since the last call.
pub fn taken() -> Vec<String> {
    LINES.take()
}

/// Calls `hook` with each line that is logged on this thread while `body` runs, such as `"WARN:
/// renewal by the certificate's lifetime: ..."`.
pub fn with<T>(hook: impl FnMut(&str) + 'static, body: impl FnOnce() -> T) -> T {
    begin();
    HOOK.set(Some(Box::new(hook)));
    let value = body();
    HOOK.set(None);
    value
}

/// Returns the value of `body`, and the lines that were logged meanwhile.
pub fn lines<T>(body: impl FnOnce() -> T) -> (T, Vec<String>) {
    let lines = std::rc::Rc::new(RefCell::new(Vec::new()));
    let kept = lines.clone();
    let value = with(move |line| kept.borrow_mut().push(line.to_owned()), body);
    (value, lines.take())
}
