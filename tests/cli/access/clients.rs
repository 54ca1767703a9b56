//! docker, podman and skopeo with passwords that the program prints for a token.

use super::Account;
use super::matrix::{Layers, OURS, PEOPLE, Person, Target, repository_name};
use crate::tools::{Daemon, Tools};

/// A person and the requested access level of a login to the person's own repository.
struct Login {
    person: &'static Person,
    access: &'static str,
}

/// Logins of a user and of a robot, to pull and to push.
const LOGINS: [Login; 4] = [
    Login { person: &PEOPLE[0], access: "pull" },
    Login { person: &PEOPLE[0], access: "push" },
    Login { person: &PEOPLE[4], access: "pull" },
    Login { person: &PEOPLE[4], access: "push" },
];

/// Logs a tool in to the person's own repository. Returns `false` if the program denies the password.
fn logged_in(account: &Account, tools: &Tools<'_>, tool: &str, login: &Login) -> bool {
    let name = repository_name(Layers::Both, login.person, Target::Own);
    let line = format!("--login {name} --access {} --organization {OURS}", login.access);
    let printer = || account.command(Layers::Both, login.person, &line);
    if account.sandbox.finish(&mut printer()).code != 0 {
        return false;
    }
    let run = tools.log_in(tool, &account.aws.registry_host().to_string(), printer());
    assert_eq!(run.code, 0, "{tool}: {run:?}");
    true
}

/// Returns whether a tool may pull and push, for each target of the access matrix.
fn table(
    account: &Account,
    login: &Login,
    allows: impl Fn(&str, &str) -> bool,
) -> Vec<(Target, bool, bool)> {
    let try_target = |target: Target| {
        let name = repository_name(Layers::Both, login.person, target);
        let organization = target.of(login.person);
        let image = format!("{}/prod/{organization}/{name}", account.aws.registry_host());
        (target, allows("pull", &image), allows("push", &image))
    };
    Target::ALL.into_iter().map(try_target).collect()
}

/// Returns the expected table: the password is for one repository only.
fn expected(login: &Login) -> Vec<(Target, bool, bool)> {
    let pushes = login.access == "push";
    Target::ALL
        .into_iter()
        .map(|target| (target, target == Target::Own, target == Target::Own && pushes))
        .collect()
}

#[test]
fn skopeo_and_podman_reach_one_repository() {
    let account = Account::of_the_matrix();
    for login in &LOGINS {
        let tools = Tools::new(&account.sandbox, &account.aws.registry_host().to_string());
        let gets_one = logged_in(&account, &tools, "skopeo", login);
        assert_eq!(gets_one, login.person.id() == "alice" || login.access == "pull");
        if !gets_one {
            continue;
        }
        let skopeo = |doing: &str, image: &str| {
            let line = match doing {
                "pull" => format!("skopeo inspect --raw docker://{image}:v1"),
                _ => format!("skopeo copy -q oci:image docker://{image}:skopeo"),
            };
            tools.run(&line).code == 0
        };
        assert_eq!(table(&account, login, skopeo), expected(login), "skopeo");
        tools.printed("podman pull -q oci:image");
        let id = tools.printed("podman images -q");
        let podman = |doing: &str, image: &str| {
            let line = match doing {
                "pull" => format!("podman pull -q {image}:v1"),
                _ => format!("podman push -q {id} docker://{image}:podman"),
            };
            tools.run(&line).code == 0
        };
        assert_eq!(table(&account, login, podman), expected(login), "podman");
        tools.printed("podman rmi -a -f");
    }
}

#[test]
fn docker_reaches_one_repository() {
    let account = Account::of_the_matrix();
    let daemon = Daemon::start();
    let tool = format!("docker --host {}", daemon.host());
    let host = account.aws.registry_host().to_string();
    let tools = Tools::new(&account.sandbox, &host);
    for login in LOGINS.iter().take(3) {
        assert!(logged_in(&account, &tools, &tool, login));
        // The pushed image is pulled from the own repository, which the login allows.
        let own = format!("{host}/prod/{OURS}/app:v1");
        tools.printed(&format!("{tool} pull -q {own}"));
        let docker = |doing: &str, image: &str| {
            if doing == "pull" {
                return tools.run(&format!("{tool} pull -q {image}:v1")).code == 0;
            }
            tools.printed(&format!("{tool} tag {own} {image}:docker"));
            tools.run(&format!("{tool} push -q {image}:docker")).code == 0
        };
        assert_eq!(table(&account, login, docker), expected(login), "docker");
    }
}
