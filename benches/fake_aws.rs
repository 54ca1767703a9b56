//! The project's own fake of AWS as a process, with an account of any size.
//!
//! `fake-aws TOTAL OURS` has so many repositories, some of them the standard organization's. It prints
//! the environment that reaches it, one variable on a line, and an empty line. Then each line that
//! it reads is answered with the number of calls since the last one; the end of its input is its end.
//! A line may have what goes wrong from then on: `throttle ACTION`, once, `silence ACTION`, or `heal`.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::OrganizationId;
use ark_container_fakes::aws::{FakeAws, Fault, ListedRepository, User};

/// Longer than any client waits.
const SILENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || {
        arguments.next().ok_or("expected TOTAL and OURS")?.parse().map_err(Box::<dyn Error>::from)
    };
    let (total, ours): (usize, usize) = (number()?, number()?);
    let folder = tempfile::tempdir()?;
    let user = User::administrator("bench");
    let repositories = (0..total).map(|index| repository(index, total, ours));
    let store = LocalBackend::open(Some(folder.path()))?;
    let aws =
        FakeAws::builder(store).with_user(user.clone()).with_list(repositories).start().await?;

    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ARK_REGISTRY=ecr://{}/prod", aws.host())?;
    for (name, value) in aws.environment(user.access_key()) {
        writeln!(stdout, "{name}={value}")?;
    }
    writeln!(stdout)?;
    stdout.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line == "heal" {
            aws.clear_faults();
        }
        match line.split_once(' ') {
            Some(("throttle", action)) => aws.inject(Fault::throttle().on(action).times(1)),
            Some(("silence", action)) => aws.inject(Fault::slow(SILENCE).on(action)),
            _ => {}
        }
        writeln!(stdout, "{}", aws.calls().len())?;
        stdout.flush()?;
        aws.forget_calls();
    }
    Ok(())
}

/// Ours are spread over the others, which are of as many organizations as there are hundreds.
fn repository(index: usize, total: usize, ours: usize) -> ListedRepository {
    let organization = match index * ours / total != (index + 1) * ours / total {
        true => OrganizationId::TBD,
        false => OrganizationId::from_u128(index as u128 / 100),
    };
    ListedRepository::new(format!("prod/{organization}/catalog/job-{index}"))
        .with_tag("ark:organization", organization.to_string())
}
