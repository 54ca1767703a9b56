//! A minimal program with aws-sdk-ecr, to measure the duration of the SDK alone.
//!
//! `bare-ecr list` lists repositories, and `bare-ecr login` logs in. `ecr-side-by-side.sh` runs both.

use std::error::Error;
use std::io::{self, Write as _};

use aws_config::BehaviorVersion;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
    let ecr = aws_sdk_ecr::Client::new(&config);
    let mut stdout = io::stdout().lock();
    match std::env::args().nth(1).as_deref() {
        Some("list") => {
            let mut pages = ecr.describe_repositories().max_results(1000).into_paginator().send();
            while let Some(page) = pages.next().await {
                for repository in page?.repositories() {
                    writeln!(stdout, "{}", repository.repository_uri().unwrap_or_default())?;
                }
            }
        }
        Some("login") => {
            let answer = ecr.get_authorization_token().send().await?;
            let data = answer.authorization_data().first().ok_or("no authorization data")?;
            let token = STANDARD.decode(data.authorization_token().unwrap_or_default())?;
            let token = String::from_utf8(token)?;
            writeln!(stdout, "{}", token.strip_prefix("AWS:").ok_or("no user AWS")?)?;
        }
        _ => return Err("expected list or login".into()),
    }
    Ok(())
}
