use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{TestRegistry, TestToken, TokenIssuer};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::example;

/// The running service. Dropping it ends the process.
struct Running {
    process: Child,
    url: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Self { process, url: String::new() };
        let lines = BufReader::new(running.process.stderr.take().unwrap()).lines();
        let mut printed = Vec::new();
        for line in lines.map(Result::unwrap) {
            if let Some(address) = line.strip_prefix("listening on ") {
                running.url = format!("http://{address}");
                return running;
            }
            printed.push(line);
        }
        panic!("the service does not start: {printed:?}");
    }
}

impl Drop for Running {
    /// cargo does not forward signals, so the process of the program itself is found and ended.
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

fn service(directory: &Path, keys: &Path, audit: &Path) -> Running {
    use std::os::unix::process::CommandExt;
    let mut command = example("catalog_service", directory);
    command.args(["--listen", "127.0.0.1:0", "--audience", "ark", "--key-set"]).arg(keys);
    command.arg("--audit-file").arg(audit);
    Running::start({
        command.process_group(0);
        command
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn service_acts_for_each_user() {
    let folder = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start().unwrap();
    let directory = registry.backend().directory().to_owned();
    let issuer = TokenIssuer::new("https://issuer.invalid", "ark").unwrap();
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, issuer.key_set_json()).unwrap();
    let audit = folder.path().join("audit.jsonl");
    let service = service(&directory, &keys, &audit);

    let own = OrganizationId::TBD.to_string();
    let token = |name: &str| {
        let token = TestToken::new(&name.parse().unwrap());
        issuer.token(&token.with_organizations([OrganizationId::TBD])).unwrap()
    };
    let client = Client::new();
    let ask = async |token: &str, path: &str, body: Option<Value>| {
        let url = format!("{}{path}", service.url);
        let request = match &body {
            Some(body) => {
                client.post(url).header("content-type", "application/json").body(body.to_string())
            }
            None => client.get(url),
        };
        let response = request.bearer_auth(token).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    let (alice, robot) = (token("user:alice"), token("robot:nightly"));
    let repository = json!({ "organization": own, "name": "test/repo", "access": "push" });

    let (status, created) = ask(&alice, "/repositories", Some(repository.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let (status, listed) = ask(&robot, "/repositories", None).await;
    assert_eq!(status, StatusCode::OK);
    let url = format!("{}/prod/{own}/test/repo", registry.host());
    let rows: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| &row["url"]).collect::<Vec<_>>(), [&json!(url)]);

    let (status, login) = ask(&alice, "/credentials", Some(repository.clone())).await;
    assert_eq!(status, StatusCode::OK, "{login}");
    let login: Value = serde_json::from_str(&login).unwrap();
    assert_eq!(login["host"], json!(registry.host().as_str()));
    let (status, denied) = ask(&robot, "/credentials", Some(repository.clone())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{denied}");
    let foreign = json!({ "organization": "11111111-2222-3333-4444-555555555555", "name": "a" });
    let (status, _) = ask(&alice, "/credentials", Some(foreign)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = ask("forged", "/repositories", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = ask(&alice, "/repositories?organization=x", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let (_, metrics) = ask("", "/metrics", None).await;
    assert!(
        metrics.contains("ark_container_decisions_total{action=\"push\",decision=\"deny\"}"),
        "{metrics}"
    );
    let recorded = std::fs::read_to_string(&audit).unwrap();
    let password = login["password"].as_str().unwrap();
    assert!(recorded.contains("user:alice") && recorded.contains("robot:nightly"), "{recorded}");
    assert!(!recorded.contains(password) && !metrics.contains(password));
}
