//! The command line: `naive-ptq --help`.

/// Prints a line; a reader that has gone away (`| head`) is an error like any other, not a panic.
macro_rules! say {
    ($($text:tt)*) => {
        crate::say::line(format_args!($($text)*))?
    };
}

mod args;
mod bench;
mod blame;
mod by_hand;
mod choices;
mod conv;
mod demo;
mod deploy;
mod eval;
mod inspect;
mod progress;
mod quantize;
mod report;
mod run;
mod say;
#[cfg(unix)]
mod signals;
mod table;
mod tune;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Takes a trained float network (ONNX), quantizes it after training, and runs it in integers.
///
/// Exit status: 0 if all went well, 1 if a check failed, 2 on an error.
#[derive(Debug, Parser)]
#[command(version = env!("NAIVE_PTQ_VERSION"), after_help = "Begin with:\n  naive-ptq demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Conv(conv::Args),
    Inspect(inspect::Args),
    Quantize(quantize::Args),
    Tune(tune::Args),
    Run(run::Args),
    Eval(eval::Args),
    Blame(blame::Args),
    Bench(bench::Args),
    Deploy(deploy::Args),
    Verify(verify::Args),
}

fn main() -> ExitCode {
    #[cfg(unix)]
    signals::remove_temporaries_at_the_end();
    match Cli::try_parse() {
        Ok(cli) => run(cli.command).unwrap_or_else(|error| report_error(&error)),
        // Also what --help prints. Where standard error takes nothing, the status alone tells.
        Err(error) => match error.print() {
            Err(io) if !error.use_stderr() => report_error(&io.into()),
            _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
        },
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Conv(args) => conv::run(args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Blame(args) => blame::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// Prints an error, whose first line alone is not indented, and returns its status; a reader that has gone
/// away is none.
fn report_error(error: &anyhow::Error) -> ExitCode {
    let io = error.chain().find_map(|cause| {
        let ours = cause.downcast_ref::<naive_ptq::Error>().and_then(naive_ptq::Error::io);
        ours.or(cause.downcast_ref::<std::io::Error>())
    });
    if io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    // Where standard error is full or closed, the status alone tells.
    let text = format!("error: {error:#}").replace('\n', "\n  ");
    let _ = writeln!(std::io::stderr(), "{}", say::plain(&text));
    ExitCode::from(2)
}
