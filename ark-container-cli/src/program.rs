//! One run of the program, from the words that were typed to the exit code.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _, ValueEnum as _};
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{AnyOperation, Cli, GlobalOptions, Operation, PROGRAM, operation_first};
use crate::commands;
use crate::connect::Context;
use crate::failure::{Failure, Kind, Stop};
use crate::output::{self, Format, Output, stdout_failure};
use crate::settings::Settings;

/// From where on two words are taken for spellings of one: above what chance gives to `--` words.
const SIMILAR: f64 = 0.8;

/// What shells expect of a program that SIGINT ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
/// How many threads move images at most.
const TRANSFER_THREADS: usize = 4;
/// Time that threads have to end after the operation.
const THREAD_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Does what was typed, tells what became of it, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let mut format = typed_format(&argv);
    match attempt(argv, &mut format) {
        // Whoever reads only the first lines has what they wanted: as for ripgrep, that is success.
        Ok(()) | Err(Stop::ReaderGone) => ExitCode::SUCCESS,
        Err(Stop::Denied) => ExitCode::from(Kind::NotPermitted as u8),
        Err(Stop::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(Stop::Failed(failure)) => failure.report(format),
    }
}

/// Sets `format` to what the settings say as soon as they are known.
fn attempt(argv: Vec<OsString>, format: &mut Format) -> Result<(), Stop> {
    let argv = operation_first(&Cli::command(), argv)?;
    let Cli { options, operation } = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(answer) if !answer.use_stderr() => {
            return answer.print().map_err(|error| stdout_failure(&error));
        }
        Err(error) => return Err(Failure::from(with_similar_operation(error)).into()),
    };
    let Some(operation) = operation else {
        let help = Cli::command().render_help().to_string();
        let failure = Failure::usage("no operation is given").with_usage(help);
        return Err(failure.with_help(format!("all about each: {PROGRAM} --help")).into());
    };
    let operation = match operation {
        AnyOperation::Registry(operation) => operation,
        // Settings that are wrong are not to be in its way.
        AnyOperation::Program(operation) => return commands::run_without_registry(&operation),
    };
    let settings = Settings::resolve(&options, &|name| std::env::var_os(name))?;
    *format = settings.format;
    output::start_log(log_level(&options), io::stderr);
    let runtime = runtime_for(&operation).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let output = Output { format: *format, quiet: options.quiet };
    let context = Context { settings, output, max_attempts: None };
    let ended = runtime.block_on(commands::run(operation, &context));
    // What was given up may have threads that still read or compress.
    runtime.shutdown_timeout(THREAD_SHUTDOWN_TIMEOUT);
    ended.map_err(|stop| match stop {
        Stop::Failed(failure) => context.advise(failure).into(),
        other => other,
    })
}

/// Does work that waits for one thing at a time. Threads that still wait then, as for a disk or a name
/// server, are abandoned.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// Threads where there is work for them. An image on its way keeps a few busy, and each of a large
/// machine's would have memory of its own. The rest of the operations wait for one answer at a time, and
/// starting threads would cost more than a login that is found in the cache.
fn runtime_for(operation: &Operation) -> tokio::runtime::Builder {
    match operation {
        Operation::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        Operation::Push(_) | Operation::Pull(_) | Operation::Copy(_) => {
            let processors = available_parallelism().map_or(1, NonZeroUsize::get);
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(processors.min(TRANSFER_THREADS));
            builder
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    }
}

/// Adds the operation that was probably meant; clap looks for similar names among the options only.
fn with_similar_operation(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let similarity = |operation: &String| strsim::jaro(operation, unknown);
    let to_beat = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => similarity(option).max(SIMILAR),
        _ => SIMILAR,
    };
    let operations = Cli::command();
    let operations = operations.get_subcommands().filter_map(|operation| operation.get_long_flag());
    let most_similar = operations
        .map(|operation| format!("--{operation}"))
        .filter(|operation| similarity(operation) > to_beat)
        .max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    if let Some(operation) = most_similar {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(operation));
    }
    error
}

/// The format in which a failure is told before the command line and the settings are understood.
fn typed_format(argv: &[OsString]) -> Format {
    let mut words = argv.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    let mut typed = None;
    while let Some(word) = words.next() {
        match word.strip_prefix("--output") {
            Some("") => typed = words.next().map(str::to_owned),
            Some(value) => typed = value.strip_prefix('=').map(str::to_owned).or(typed),
            None => {}
        }
    }
    let text = typed.or_else(|| std::env::var("ARK_OUTPUT").ok()).unwrap_or_default();
    Format::from_str(&text, false).unwrap_or_default()
}

fn log_level(options: &GlobalOptions) -> LevelFilter {
    match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, false) => LevelFilter::WARN,
        (false, true) => LevelFilter::DEBUG,
    }
}
