//! Runs the registry under load by many clients, for tests/heavy/soak.
//!
//! `soak PROGRAM SECONDS [USERS]` starts PROGRAM as the server of a new folder. Each user has its own organization, so
//! the correct answer to each request is known. In the first quarter, the server is killed every few seconds.
//! Afterwards, one process serves until the end. No resource may grow between the second and the last quarter.

#![expect(clippy::print_stdout, reason = "the output is the report")]

mod contents;
mod measurements;
mod server;
mod user;

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use measurements::{Sample, Samples};
use server::{Environment, Server};
use user::User;

pub(crate) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The interval between kills of the server in the first quarter.
const KILL_INTERVAL: Duration = Duration::from_secs(6);
/// The number of samples in the report.
const LINES: u32 = 24;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let mut arguments = env::args().skip(1);
    let (Some(program), Some(seconds)) = (arguments.next(), arguments.next()) else {
        return Err("expected the program and the duration in seconds".into());
    };
    let users: u128 = arguments.next().map_or(Ok(8), |users| users.parse())?;
    let duration = Duration::from_secs(seconds.parse()?);
    let home = tempfile::tempdir()?;
    let environment = Arc::new(Environment::new(PathBuf::from(program), home.path())?);
    let mut server = Server::start(&environment)?;
    println!("serving at {}, {users} users, {} s", environment.host, duration.as_secs());

    let started = Instant::now();
    let mut working = JoinSet::new();
    for number in 0..users {
        let user = User::new(Arc::clone(&environment), number)?;
        working.spawn(user.work(started + duration));
    }
    let mut samples = Samples::new(duration);
    let watching = watch(&mut server, &environment, &mut samples, started, duration);
    let working = async {
        let mut users: Vec<User> = Vec::new();
        while let Some(ended) = working.join_next().await {
            users.push(ended??);
        }
        Ok(users)
    };
    // The first failure ends the run.
    let ((), mut users) = tokio::try_join!(watching, working)?;

    for user in &mut users {
        user.check_all().await?;
    }
    let left = server.restart_and_check_sweep(&environment).await?;
    for user in &mut users {
        user.check_all().await?;
    }
    println!("\n{}", environment.latencies);
    println!("{left} abandoned uploads were swept");
    println!(
        "{} kills of the server, {} of clients",
        environment.kills(),
        environment.client_kills()
    );
    samples.check_growth()?;
    println!("no resource has grown, and all answers were correct");
    Ok(())
}

/// Kills the server in the first quarter, and measures the server until the end.
async fn watch(
    server: &mut Server,
    environment: &Environment,
    samples: &mut Samples,
    started: Instant,
    duration: Duration,
) -> Result<(), Problem> {
    println!("{}", Sample::HEADER);
    let mut next_kill = started + KILL_INTERVAL / 2;
    for line in 1..=LINES {
        let until = started + duration * line / LINES;
        while started.elapsed() < duration / 4 && next_kill < until {
            sleep_until(next_kill.into()).await;
            server.kill_and_restart(environment)?;
            next_kill += KILL_INTERVAL;
        }
        sleep_until(until.into()).await;
        if line == LINES / 4 {
            // Users that wait for the restarted server reach it in this time.
            sleep(Duration::from_millis(500)).await;
            environment.kills_server.store(false, Ordering::SeqCst);
            environment.latencies.clear();
        }
        let sample = Sample::take(server.id(), environment, started)?;
        println!("{sample}");
        samples.push(sample);
    }
    Ok(())
}
