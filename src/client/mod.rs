//! Blocking drivers of the engine: they have a clock, sleep, and open sockets.

pub(crate) mod clock;
pub(crate) mod run;
