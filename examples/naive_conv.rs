//! The tutorial, `src/naive_conv.rs`: `cargo run --example naive_conv`.

use std::error::Error;
use std::io;

use naive_ptq::naive_conv::{Experiment, Options};

fn main() -> Result<(), Box<dyn Error>> {
    run()
}

/// Tells the three steps.
pub fn run() -> Result<(), Box<dyn Error>> {
    Ok(Experiment::new(&Options::default())?.tell(&mut io::stdout().lock())?)
}
