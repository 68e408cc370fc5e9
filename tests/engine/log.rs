//! What the library logs. A process has one logger; here it passes each line on to what the test on
//! its own thread has set up.

use std::cell::RefCell;

type Hook = Box<dyn FnMut(&str)>;

std::thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        HOOK.with_borrow_mut(|hook| {
            if let Some(hook) = hook {
                hook(&format!("{}: {}", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Has `hook` called with each line that is logged on this thread while `body` runs, such as
/// `"WARN: renewal by the certificate's lifetime: ..."`.
pub fn with<T>(hook: impl FnMut(&str) + 'static, body: impl FnOnce() -> T) -> T {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    HOOK.set(Some(Box::new(hook)));
    let value = body();
    HOOK.set(None);
    value
}

/// What `body` gives, and the lines that were logged meanwhile.
pub fn lines<T>(body: impl FnOnce() -> T) -> (T, Vec<String>) {
    let lines = std::rc::Rc::new(RefCell::new(Vec::new()));
    let kept = lines.clone();
    let value = with(move |line| kept.borrow_mut().push(line.to_owned()), body);
    (value, lines.take())
}
