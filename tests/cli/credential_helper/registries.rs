//! Which organizations a login opens, and more registries than one.

use std::fs;

use ark_container_core::model::OrganizationId;

use super::{helper, login};
use crate::curl::Curl;
use crate::sandbox::{MEMBERSHIPS, OTHER, Sandbox, Server, TBD};
use crate::served::Served;

/// The scope of the login that a principal gets, as the log has it.
fn scope(sandbox: &Sandbox, server: &Server, principal: &str) -> String {
    let mut command = helper(sandbox, "get", server.host());
    command.env("ARK_PRINCIPAL", principal).env("ARK_CREDENTIAL_LOG", sandbox.path("log"));
    login(&sandbox.finish(&mut command));
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    log.trim_end().rsplit_once(" for ").unwrap().1.to_owned()
}

#[test]
fn users_push_to_their_organizations_and_robots_pull() {
    let sandbox = Sandbox::with_memberships();
    let both = MEMBERSHIPS.replace("user:bob", "user:alice");
    sandbox.write("data/ark/registry/memberships.toml", both);
    let server = sandbox.serve();
    let scope = |principal| scope(&sandbox, &server, principal);
    let push = format!("repository:prod/{OTHER}/*:pull,push repository:prod/{TBD}/*:pull,push");
    assert_eq!(scope("user:alice"), push);
    let global = format!("repository:prod/{}/*:pull", OrganizationId::GLOBAL);
    let pull = format!("repository:prod/{TBD}/*:pull {global}");
    assert_eq!(scope("robot:nightly"), pull);
    assert_eq!(scope("user:nobody"), global);
}

#[test]
fn whoever_has_a_registry_alone_reaches_all_that_is_in_it() {
    let sandbox = Sandbox::new();
    for organization in [TBD, OTHER] {
        sandbox.printed(&format!("--create-repository a --organization {organization}"));
    }
    let push = format!("repository:prod/{OTHER}/*:pull,push repository:prod/{TBD}/*:pull,push");
    assert_eq!(scope(&sandbox, &sandbox.serve(), "user:alice"), push);
}

#[test]
fn two_registries_of_this_machine_are_served_at_once() {
    let (one, two) = (Served::with_repositories(&["a"]), Served::with_repositories(&["a"]));
    let folder = |served: &Served| served.sandbox.path("data/ark/registry").display().to_string();
    let sandbox = Sandbox::new();
    let config = format!(
        "registry = 'local:{}'\nregistries = ['local:{}', \
         'ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com']\n",
        folder(&one),
        folder(&two)
    );
    sandbox.write("config/ark/container.toml", config);
    let get = |server: &str| login(&sandbox.finish(&mut helper(&sandbox, "get", server))).2;
    let (own, other) = (get(one.server.host()), get(two.server.host()));
    for (served, password, status) in
        [(&one, &own, 200), (&two, &other, 200), (&one, &other, 401), (&two, &own, 401)]
    {
        let curl = Curl::new(served.server.host(), Some(password));
        let answer = curl.send("GET", &format!("/v2/prod/{TBD}/a/tags/list"), &[]);
        assert_eq!(answer.status, status);
    }
    let list = sandbox.finish(&mut helper(&sandbox, "list", ""));
    for host in
        [one.server.host(), two.server.host(), "095412845506.dkr.ecr.us-east-1.amazonaws.com"]
    {
        assert!(list.stdout.contains(&format!("\"{host}\":\"AWS\"")), "{list:?}");
    }
}
