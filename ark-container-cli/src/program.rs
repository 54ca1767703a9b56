//! Runs `ark-catalog-container-tool`, from the command line to the exit code.

use std::env;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::Duration;

use ark_container_core::catalog::configured_output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _, ValueEnum as _};

use crate::arguments::{AnyOperation, Cli, Operation, PROGRAM, operation_first};
use crate::commands;
use crate::context::{Context, OUTPUT_VARIABLE};
use crate::failure::{Failure, Kind, Stop};
use crate::log;
use crate::output::{Format, stdout_failure};

/// Minimum similarity of a mistyped flag and the suggested operation, higher than that of unrelated flags.
const MIN_SIMILARITY_RATIO: f64 = 0.8;

/// Exit code after SIGINT, as in shells: 128 plus the signal's number.
const INTERRUPTED_EXIT_CODE: u8 = 130;
/// Maximum number of threads of a transfer.
const TRANSFER_THREADS: usize = 4;
/// Maximum wait for threads after the operation.
const THREAD_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the operation of the command line, prints its failure, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    unset_empty_variables(&argv);
    let mut format = None;
    match attempt(argv.clone(), &mut format) {
        // A reader that closes standard output, such as head, needs no more output.
        Ok(()) | Err(Stop::ReaderGone) => ExitCode::SUCCESS,
        Err(Stop::Denied) => ExitCode::from(Kind::NotPermitted as u8),
        Err(Stop::Interrupted) => ExitCode::from(INTERRUPTED_EXIT_CODE),
        Err(Stop::Failed(failure)) => failure.report(format.unwrap_or_else(|| early_format(&argv))),
    }
}

/// Restarts the program without the empty variables of AWS, certificates and proxies, if there are any.
///
/// An empty variable counts as not set. The AWS SDK panics on some empty variables.
pub(crate) fn unset_empty_variables(argv: &[OsString]) {
    let is_empty = |(name, value): &(OsString, OsString)| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        let concerns_requests = name.starts_with("AWS_") || name.starts_with("SSL_CERT_");
        value.is_empty() && (concerns_requests || name.ends_with("_PROXY"))
    };
    let empty: Vec<_> = env::vars_os().filter(is_empty).collect();
    let (Some((program, arguments)), Ok(path), false) =
        (argv.split_first(), env::current_exe(), empty.is_empty())
    else {
        return;
    };
    let mut command = Command::new(path);
    command.arg0(program).args(arguments);
    for (name, _) in empty {
        command.env_remove(name);
    }
    // `exec` returns only if it fails. The core then reports the relevant variables.
    let _ = command.exec();
}

/// Runs the operation, and sets `format` after reading the settings.
fn attempt(argv: Vec<OsString>, format: &mut Option<Format>) -> Result<(), Stop> {
    let argv = operation_first(&Cli::command(), argv)?;
    let no_text = argv.iter().find(|word| word.to_str().is_none()).cloned();
    let Cli { options, operation } = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(answer) if !answer.use_stderr() => {
            return answer.print().map_err(|error| stdout_failure(&error));
        }
        Err(error) => {
            let word = no_text.filter(|_| error.kind() == ErrorKind::InvalidUtf8);
            return Err(match word {
                Some(word) => Failure::usage(format!("the argument {word:?} is not UTF-8")),
                None => with_similar_operation(error).into(),
            }
            .into());
        }
    };
    let Some(operation) = operation else {
        let help = Cli::command().render_help().to_string();
        let failure = Failure::usage("no operation is given").with_usage(help);
        return Err(failure.with_help(format!("list the operations: {PROGRAM} --help")).into());
    };
    let operation = match operation {
        AnyOperation::Registry(operation) => operation,
        // These operations work with invalid settings too.
        AnyOperation::Program(operation) => return commands::run_without_registry(&operation),
    };
    let context = Context::new(&options)?;
    *format = Some(context.output.format);
    log::start(context.output, options.verbose);
    let runtime = runtime_for(&operation).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let ended = runtime.block_on(commands::run(operation, &context));
    // An interrupted transfer may have running threads that read or compress.
    runtime.shutdown_timeout(THREAD_SHUTDOWN_TIMEOUT);
    ended.map_err(|stop| match stop {
        Stop::Failed(failure) => context.advise(failure).into(),
        other => other,
    })
}

/// Runs a future on this thread. Threads that still wait for a disk or a name server are abandoned.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// Returns a runtime with the threads that an operation needs. A transfer uses a few threads, and more would
/// only cost memory. Other operations wait for one response at a time, and starting threads would take longer
/// than a login from the cache.
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

/// Adds the most similar operation as a suggestion: clap suggests only options.
fn with_similar_operation(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let similarity = |operation: &String| strsim::jaro(operation, unknown);
    let to_beat = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => similarity(option).max(MIN_SIMILARITY_RATIO),
        _ => MIN_SIMILARITY_RATIO,
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

/// Returns the format of a failure to parse the command line or the settings.
fn early_format(argv: &[OsString]) -> Format {
    let mut words = argv.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    let mut typed = None;
    while let Some(word) = words.next() {
        match word.strip_prefix("--output") {
            Some("") => typed = words.next().map(str::to_owned),
            Some(value) => typed = value.strip_prefix('=').map(str::to_owned).or(typed),
            None => {}
        }
    }
    let variable = || env::var(OUTPUT_VARIABLE).ok().filter(|value| !value.is_empty());
    let text = typed.or_else(variable).or_else(configured_output).unwrap_or_default();
    Format::from_str(&text, false).unwrap_or_default()
}
