//! What programs read: one object on a line, with the documented names.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, TBD};

/// The objects that a run printed.
fn objects(sandbox: &Sandbox, line: &str) -> Vec<Value> {
    let printed = sandbox.printed(&format!("{line} --output json"));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn object(sandbox: &Sandbox, line: &str) -> Value {
    let mut objects = objects(sandbox, line);
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

/// Takes a time out of an object, and checks its form.
fn take_time(object: &mut Value, name: &str) {
    let time = object.as_object_mut().unwrap().remove(name).unwrap();
    let time = time.as_str().unwrap().as_bytes();
    assert!(time.len() == 20 && time[10] == b'T' && time[19] == b'Z', "{time:?}");
}

#[test]
fn repositories() {
    let sandbox = Sandbox::new();
    assert_eq!(objects(&sandbox, "--list-repositories"), Vec::<Value>::new());
    let create = format!(
        "--create-repository a/b --organization {TBD} --immutable-tags --resource-tag team=x=y"
    );
    let expected = json!({
        "organization": TBD,
        "name": "a/b",
        "url": format!("127.0.0.1:5050/prod/{TBD}/a/b"),
        "tag_mutability": "immutable",
        "mutability_exclusions": [],
        "resource_tags": {"team": "x=y"},
    });
    for line in [&create, "--list-repositories"] {
        let mut repository = object(&sandbox, line);
        take_time(&mut repository, "created_at");
        assert_eq!(repository, expected);
    }
    let deleted = object(&sandbox, &format!("--delete-repository a/b --organization {TBD}"));
    assert_eq!(deleted, json!({"url": expected["url"]}));
}

#[test]
fn images() {
    let sandbox = Sandbox::new();
    let url = sandbox.push("a:v1");
    let (repository, digest) = url.trim().split_once('@').unwrap();
    let mut image = object(&sandbox, &format!("--list-images a --organization {TBD}"));
    take_time(&mut image, "pushed_at");
    assert!(image["size"].as_u64().unwrap() > 1000);
    image.as_object_mut().unwrap().remove("size");
    let expected = json!({
        "tags": ["v1"],
        "digest": digest,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "platforms": ["linux/amd64"],
    });
    assert_eq!(image, expected);
    let deleted = object(&sandbox, &format!("--delete-image a:v1 --organization {TBD}"));
    assert_eq!(deleted, json!({"url": format!("{repository}:v1")}));
}

#[test]
fn pushes() {
    let sandbox = Sandbox::new();
    let url = sandbox.push("a:v1");
    let push = format!("--push a:v2 --from oci:pushed --organization {TBD}");
    let mut pushed = object(&sandbox, &push);
    assert!(pushed["bytes_skipped"].as_u64().unwrap() > 1000);
    pushed.as_object_mut().unwrap().remove("bytes_skipped");
    let seconds = pushed.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    let expected = json!({
        "url": url.trim(), "tag": "v2", "blobs_sent": 0, "bytes_sent": 0, "blobs_skipped": 2,
        "blobs_mounted": 0, "bytes_mounted": 0, "bytes_resumed": 0, "bytes_saved": 0, "retries": 0,
    });
    assert_eq!(pushed, expected);
}

#[test]
fn logins() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let mut login = object(&sandbox, &format!("--login a --organization {TBD}"));
    take_time(&mut login, "expires_at");
    let password = login.as_object_mut().unwrap().remove("password").unwrap();
    assert!(password.as_str().unwrap().len() > 100);
    let expected = json!({
        "host": "127.0.0.1:5050",
        "username": "AWS",
        "scope": format!("repository:prod/{TBD}/a:pull,push"),
        "narrowed": true,
    });
    assert_eq!(login, expected);
}

#[test]
fn whoami() {
    let sandbox = Sandbox::with_memberships();
    let run = sandbox.run_as("user:carol", "--whoami --output json");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let expected = json!({
        "principal": "user:carol",
        "kind": "user",
        "identity": {
            "kind": "local_user",
            "origin": "ARK_PRINCIPAL",
            "token_file": null,
            "key_set": null,
        },
        "organizations": [{"organization": TBD, "administrator": true}],
        "memberships_file": "~/data/ark/registry/memberships.toml",
        "audit_file": null,
        "registry": "local:~/data/ark/registry",
        "host": "127.0.0.1:5050",
        "served_at": null,
        "aws": null,
        "credentials_narrowed_to": "repository",
        "walls": ["policy", "credentials"],
    });
    assert_eq!(report, expected);
}

#[test]
fn servers() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve_with("--output json");
    let served: Value = serde_json::from_str(server.line()).unwrap();
    let whoami = object(&sandbox, "--whoami");
    assert_eq!(served["address"], whoami["served_at"]);
    assert_eq!(served["directory"], sandbox.path("data/ark/registry").to_str().unwrap());
}

#[test]
fn notes_are_json_too() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("--list-repositories --output json");
    let note: Value = serde_json::from_str(&run.stderr).unwrap();
    assert!(note["note"].as_str().unwrap().contains("none was chosen"), "{note}");
}
