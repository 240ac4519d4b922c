//! A progress bar.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

const WIDTH: usize = 40;

/// A bar on standard error; invisible unless that is a terminal. It is gone once this is dropped.
pub struct Progress {
    what: &'static str,
    samples: usize,
    done: AtomicUsize,
    /// Percent that are drawn already.
    drawn: AtomicUsize,
    visible: bool,
}

impl Progress {
    /// Nothing of `samples` is done.
    pub fn new(what: &'static str, samples: usize) -> Self {
        let visible = std::io::stderr().is_terminal();
        Self { what, samples, done: AtomicUsize::new(0), drawn: AtomicUsize::new(0), visible }
    }

    /// One more sample is done.
    pub fn inc(&self) {
        self.set(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// So many samples are done.
    pub fn set(&self, done: usize) {
        // Only what can be seen is drawn: a hundred times.
        let percent = 100 * done / self.samples.max(1);
        if self.visible && self.drawn.swap(percent, Ordering::Relaxed) != percent {
            let filled = "=".repeat(WIDTH * percent / 100);
            let (what, samples) = (self.what, self.samples);
            // A terminal that has gone away needs no bar.
            let _ = write!(std::io::stderr(), "\r{what} [{filled:<WIDTH$}] {done}/{samples}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.visible {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
