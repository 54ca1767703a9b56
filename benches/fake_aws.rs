//! The fake of AWS as a process, with an account of any size.
//!
//! `fake-aws TOTAL OURS` serves TOTAL repositories, OURS of them of the default organization, until its standard input
//! ends. The program prints the environment variables of its clients, one on each line, and an empty line. For each
//! line of its input, the program prints the number of calls since the last line. The line `throttle ACTION` throttles
//! the next call, `hang ACTION` delays responses by ten minutes, and `clear` ends both.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::OrganizationId;
use ark_container_fakes::aws::{FakeAws, Fault, ListedRepository, User};

/// Longer than the timeouts of all clients.
const RESPONSE_DELAY: Duration = Duration::from_secs(600);

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
        if line == "clear" {
            aws.clear_faults();
        }
        match line.split_once(' ') {
            Some(("throttle", action)) => aws.inject(Fault::throttle().on(action).times(1)),
            Some(("hang", action)) => aws.inject(Fault::slow(RESPONSE_DELAY).on(action)),
            _ => {}
        }
        writeln!(stdout, "{}", aws.calls().len())?;
        stdout.flush()?;
        aws.forget_calls();
    }
    Ok(())
}

/// Returns a repository of the account. Repositories of the default organization are distributed evenly. Other
/// organizations have 100 repositories each.
fn repository(index: usize, total: usize, ours: usize) -> ListedRepository {
    let organization = match index * ours / total != (index + 1) * ours / total {
        true => OrganizationId::TBD,
        false => OrganizationId::from_u128(index as u128 / 100),
    };
    ListedRepository::new(format!("prod/{organization}/catalog/job-{index}"))
        .with_tag("ark:organization", organization.to_string())
}
