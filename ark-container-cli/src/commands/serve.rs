//! `--serve`: the registry of a folder, for docker and its like.

use std::net::{Ipv4Addr, SocketAddr};

use ark_container_core::Error;
use ark_container_core::backend::local::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::connect::Context;
use crate::failure::{Failure, Stop, io_kind};

const DEFAULT_PORT: u16 = 5050;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --serve
  ark-catalog-container-tool --serve --registry local:DIR --listen 127.0.0.1:0

It runs until it is interrupted (Ctrl-C) or terminated, and lets running uploads finish or be
resumed. Port 0 takes any that is free.";

/// Serve a local registry until interrupted, and print its address when it is ready
///
/// It speaks plain HTTP, so it listens to this machine only.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The address and port to listen on
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
    )]
    listen: SocketAddr,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let Args { listen } = args;
    if !listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "--listen {listen}: passwords would cross the network as plain text"
        ))
        .with_help(format!(
            "listen on 127.0.0.1:{port} and let others in through a tunnel \
             (ssh -L {port}:127.0.0.1:{port} THIS_HOST) or a proxy that speaks TLS",
            port = listen.port(),
        ))
        .into());
    }
    // Caught from here on, so that no moment is left in which a signal would cut an upload off.
    let interrupted = shutdown()?;
    let local = context.open_local()?;
    let registry = Registry::bind(local.clone(), listen).and_then(Registry::announced);
    let registry = registry.map_err(explain)?;
    let address = registry.local_addr().to_string();
    let record = serde_json::json!({ "address": address, "directory": local.directory() });
    context.output.result(&address, &record)?;
    Ok(registry.serve(interrupted).await?)
}

fn explain(error: Error) -> Failure {
    let help = match &error {
        Error::Conflict { .. } => "one server is enough: every process here finds it",
        _ if io_kind(&error) == Some(std::io::ErrorKind::AddrInUse) => {
            "end what listens there, or take another port: --listen 127.0.0.1:0"
        }
        _ => return error.into(),
    };
    Failure::from(error).with_help(help)
}

/// Ends with the first SIGINT or SIGTERM.
fn shutdown() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::io("cannot wait for signals", &error));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
