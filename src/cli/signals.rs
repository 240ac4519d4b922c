//! Ctrl-C and its like: temporary files go before the process does.

use naive_ptq::data::remove_temporaries;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Waits for a signal that ends the process, on a thread of its own. One that whoever started the process
/// wants to be ignored (`nohup`, a job in the background of a script) stays ignored.
pub fn remove_temporaries_at_the_end() {
    let ignored = ignored();
    let is_taken = |signal: &i32| ignored >> (signal - 1) & 1 == 0;
    // Where it cannot be had, the next run removes what is left.
    let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM].into_iter().filter(is_taken))
    else {
        return;
    };
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            remove_temporaries();
            let _ = emulate_default_handler(signal);
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(wait);
}

/// A bit for each signal that is ignored, the lowest for signal 1, where the system tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
