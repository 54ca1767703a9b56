//! Shell completion, and the manual pages.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::ecr::Cloud;
use crate::sandbox::{BINARY, OTHER, Sandbox, TBD};
use crate::tools::component;

/// A supported shell that is part of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Name of the program.
const TOOL: &str = "ark-catalog-container-tool";

impl Shell {
    pub(super) const ALL: [Self; 3] = [Self::Bash, Self::Zsh, Self::Fish];

    /// Returns the completions of the last word of a line that starts with the tool, with the folder and
    /// environment of `tool`.
    ///
    /// Folders have no trailing slash, since some shells omit it.
    pub(super) fn offers(self, sandbox: &Sandbox, tool: &Command, line: &str) -> Vec<String> {
        self.offers_after("", sandbox, tool, line)
    }

    /// Returns the completions after typing another line before the shell reads the scripts.
    fn offers_after(
        self,
        typed: &str,
        sandbox: &Sandbox,
        tool: &Command,
        line: &str,
    ) -> Vec<String> {
        let line = format!("{TOOL} {line}");
        let results = sandbox.path("offers");
        let words = match self {
            Self::Fish => {
                let mut fish = at_home("fish", tool);
                fish.arg("--no-config").arg("-c").arg(format!(
                    "{typed}{TOOL} --completions fish | source; complete -C '{line}' > offers"
                ));
                assert_silent(&mut fish);
                let words = fs::read_to_string(&results).unwrap();
                words.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
            }
            Self::Bash | Self::Zsh => {
                // The shell prints the completed line to a file, since its screen is hard to read.
                let keys = format!(
                    "{typed}{}{line}{}{TO_START}printf '%s\\n' {TO_END} > offers\nexit\n",
                    self.set_up(),
                    self.fill_in()
                );
                let typed = sandbox.write("typed", keys);
                let mut terminal = at_home("script", tool);
                terminal.args(["-qec", self.interactive(), "/dev/null"]);
                terminal.stdin(fs::File::open(typed).unwrap()).env("TERM", "dumb");
                let reported = terminal.output().unwrap();
                let words = fs::read_to_string(&results).unwrap_or_else(|error| {
                    panic!("{error}: {}", String::from_utf8_lossy(&reported.stdout))
                });
                let before = line.rsplit_once(' ').unwrap().0.split(' ').count();
                words.lines().skip(before).map(str::to_owned).collect::<Vec<_>>()
            }
        };
        let mut words: Vec<String> =
            words.into_iter().map(|word: String| word.trim_end_matches('/').to_owned()).collect();
        words.sort();
        fs::remove_file(results).unwrap();
        words
    }

    fn interactive(self) -> &'static str {
        match self {
            Self::Bash => "bash --norc --noprofile -i",
            Self::Zsh => "zsh -f -i",
            Self::Fish => "fish",
        }
    }

    /// Returns the first lines to type.
    fn set_up(self) -> &'static str {
        match self {
            Self::Bash => "source <(ark-catalog-container-tool --completions bash)\n",
            _ => {
                "bindkey -e; autoload -Uz compinit; compinit -u -D; \
                 zstyle ':completion:*' completer _all_matches _complete; \
                 zstyle ':completion:*' insert true; \
                 source <(ark-catalog-container-tool --completions zsh)\n"
            }
        }
    }

    /// Returns the key that inserts all completions.
    fn fill_in(self) -> &'static str {
        match self {
            Self::Bash => "\u{1b}*",
            _ => "\t",
        }
    }
}

/// Ctrl-A and Ctrl-E.
const TO_START: char = '\u{1}';
const TO_END: char = '\u{5}';

/// Returns a component with the folder and environment of `tool`, and the tool in its PATH.
fn at_home(name: &str, tool: &Command) -> Command {
    let mut command = component(name);
    let own = Path::new(BINARY).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap();
    let others = env::split_paths(&path).filter(|folder| !folder.join(TOOL).exists());
    // A command with its own PATH finds the tool by other means.
    let own = tool.get_envs().all(|(name, _)| name != "PATH").then_some(own);
    let path = env::join_paths(own.into_iter().chain(others)).unwrap();
    command.env_clear().current_dir(tool.get_current_dir().unwrap()).stdin(Stdio::null());
    command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path);
    command
}

fn assert_silent(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Returns the home of alice, with repositories of her organization and of another.
fn home() -> Sandbox {
    let sandbox = Sandbox::with_memberships();
    for name in ["catalog/extract-video", "catalog/extract-gps", "test/repo"] {
        let create = format!("--create-repository {name} --organization {TBD}");
        assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    }
    let create = format!("--create-repository catalog/secret --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    sandbox.write_image("layout", "hello");
    for tag in ["v1", "v2"] {
        let push = format!("--push test/repo:{tag} --from oci:layout --organization {TBD}");
        assert_eq!(sandbox.run_as("user:alice", &push).code, 0);
    }
    sandbox
}

fn alice(sandbox: &Sandbox) -> Command {
    let mut tool = sandbox.command("");
    tool.env("ARK_PRINCIPAL", "user:alice");
    tool
}

#[test]
fn completion_offers_operations_options_and_repositories() {
    let sandbox = home();
    let in_tbd = format!("--organization {TBD}");
    let owned = |line: &str| line.replace("OWNER", &in_tbd);
    for shell in Shell::ALL {
        for (line, offered) in [
            ("--list-", &["--list-images", "--list-repositories"][..]),
            ("list-", &["list-images", "list-repositories"]),
            ("--comp", &["--completions"]),
            ("--login --acc", &["--access"]),
            ("--login x --access pu", &["pull", "push"]),
            ("--login catalog/", &["catalog/extract-gps", "catalog/extract-video"]),
            ("login catalog/", &["catalog/extract-gps", "catalog/extract-video"]),
            ("OWNER --login=catalog/extract-g", &["--login=catalog/extract-gps"]),
            ("--create-repository new --organization ", &[TBD]),
            ("--push te", &["test/repo"]),
            (
                "--copy test/repo:v1 OWNER --to cat",
                &["catalog/extract-gps", "catalog/extract-video"],
            ),
            ("--delete-image te", &["test/repo:"]),
            ("OWNER --delete-image test/repo:v1", &["test/repo:v1"]),
            ("--push x --from docker-", &["docker-archive:", "docker-daemon:"]),
            ("--push x --from oci:lay", &["oci:layout"]),
            ("--memberships lay", &["layout"]),
        ] {
            let words = shell.offers(&sandbox, &alice(&sandbox), &owned(line));
            assert_eq!(words, offered, "{shell:?}: {line}");
        }
    }
}

#[test]
fn completion_works_with_the_alias_of_the_readme() {
    let readme = include_str!("../../README.md");
    let alias = readme.lines().find_map(|line| line.strip_prefix("    alias ")).unwrap();
    let alias =
        alias.replace("$PWD/target/release", Path::new(BINARY).parent().unwrap().to_str().unwrap());
    let sandbox = home();
    for shell in Shell::ALL {
        let mut tool = alice(&sandbox);
        tool.env("PATH", "");
        let words =
            shell.offers_after(&format!("alias {alias}\n"), &sandbox, &tool, "--login catalog/");
        assert_eq!(words, ["catalog/extract-gps", "catalog/extract-video"], "{shell:?}");
    }
}

#[test]
fn completion_works_with_quoted_values() {
    let sandbox = home();
    for shell in Shell::ALL {
        for (line, offered) in [
            ("--organization \"OWNER\" --login catalog/extract-g", "catalog/extract-gps"),
            ("--organization=\"OWNER\" --login catalog/extract-g", "catalog/extract-gps"),
            ("--organization OWNER --login \"catalog/extract-g", "catalog/extract-gps"),
            ("--organization OWNER --delete-image \"test/repo:v1", "test/repo:v1"),
        ] {
            let line = line.replace("OWNER", TBD);
            let words = shell.offers(&sandbox, &alice(&sandbox), &line);
            assert_eq!(words, [offered], "{shell:?}: {line}");
        }
    }
}

#[test]
fn bash_completes_the_part_after_the_last_colon() {
    let sandbox = home();
    let line = format!("--organization {TBD} --pull test/repo:");
    for shell in Shell::ALL {
        let words = shell.offers(&sandbox, &alice(&sandbox), &line);
        let second = if shell == Shell::Bash { "v2" } else { "test/repo:v2" };
        assert_eq!(words, ["test/repo:v1", second], "{shell:?}");
    }
}

#[test]
fn completion_works_on_ecr() {
    let cloud = Cloud::new();
    cloud.create(&["catalog/extract-gps", "catalog/extract-video"]);
    for shell in Shell::ALL {
        let offers = |line: &str| shell.offers(&cloud.sandbox, &cloud.command(""), line);
        let names = ["catalog/extract-gps", "catalog/extract-video"];
        assert_eq!(offers(&format!("--organization {TBD} --login ca")), names);
        assert_eq!(offers("--login ca"), names);
        assert_eq!(offers("--list-repositories --organization "), [TBD]);
    }
}

const NO_COMPLETIONS: (i32, &str, &str) = (0, "none\n", "");

#[test]
fn completion_without_access_offers_nothing() {
    let sandbox = Sandbox::with_memberships();
    let complete = format!("--complete -- --organization {TBD} --login ");
    let offered = |edit: &dyn Fn(&mut std::process::Command)| {
        let mut command = sandbox.command(&complete);
        command.arg("");
        edit(&mut command);
        sandbox.finish(&mut command)
    };
    let reported = |run: &crate::sandbox::Run| (run.code, run.stdout.clone(), run.stderr.clone());
    let nothing = (NO_COMPLETIONS.0, NO_COMPLETIONS.1.to_owned(), NO_COMPLETIONS.2.to_owned());
    for (name, value) in [
        ("ARK_PRINCIPAL", "user:bob"),
        ("ARK_PRINCIPAL", "nobody"),
        ("ARK_REGISTRY", "no-location"),
        ("ARK_REGISTRY", "local:/proc/none"),
        ("ARK_MEMBERSHIPS", "missing.toml"),
    ] {
        let run = offered(&|command| {
            command.env(name, value);
        });
        assert_eq!(reported(&run), nothing, "{name}={value}");
    }
    sandbox.write("config/ark/container.toml", "no settings");
    assert_eq!(reported(&offered(&|_| ())), nothing);
    // Completion of operations needs no settings.
    assert_eq!(
        sandbox.printed("--complete -- --who"),
        "none\n--whoami\tShow your identity, organizations, registry and isolation layers\n"
    );
    assert!(sandbox.printed("--completions powershell").contains("Register-ArgumentCompleter"));
}

#[test]
fn completion_does_not_wait_for_a_silent_registry() {
    let cloud = Cloud::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = cloud.command(&format!("--complete -- --organization {TBD} --login"));
    command.arg("").env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()));
    let run = cloud.sandbox.finish(&mut command);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), NO_COMPLETIONS);
    // The registry was queried.
    assert!(silent.set_nonblocking(true).is_ok() && silent.accept().is_ok());
}

#[test]
fn manual_has_a_valid_page_for_each_operation() {
    let sandbox = Sandbox::new();
    let written: BTreeSet<String> =
        sandbox.printed("--man man1").lines().map(str::to_owned).collect();
    let help = sandbox.printed("--help");
    // "  push, --push  Upload an image", and for an option "  -h, --help  Print help".
    let operations = help.lines().filter_map(|line| line.trim_start().split_once(", --"));
    let operations = operations.map(|(name, _)| name).filter(|name| !name.starts_with('-'));
    let pages = operations.map(|operation| format!("ark-catalog-container-tool-{operation}.1"));
    let mut expected: BTreeSet<String> = pages.collect();
    assert!(expected.contains("ark-catalog-container-tool-push.1"), "{help}");
    for program in ["ark-catalog-container-tool.1", "docker-credential-ark.1"] {
        expected.insert(program.to_owned());
    }
    assert_eq!(written, expected);
    for page in written {
        let page = sandbox.path("man1").join(page);
        // Most systems display pages with groff, the others with mandoc.
        let groff =
            component("groff").args(["-k", "-ww", "-z", "-man", "-Tutf8"]).arg(&page).output();
        let groff = groff.unwrap();
        assert!(groff.status.success() && groff.stderr.is_empty(), "{groff:?}");
        let mandoc = component("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output();
        let reported = String::from_utf8(mandoc.unwrap().stdout).unwrap();
        // A generated page has no date.
        let reported: Vec<&str> =
            reported.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(reported.is_empty(), "{reported:?}");
    }
}

#[test]
fn manual_pages_match_the_help() {
    let sandbox = Sandbox::new();
    sandbox.printed("--man man1");
    let man = component("man")
        .arg("-l")
        .arg(sandbox.path("man1/ark-catalog-container-tool-login.1"))
        .env("MANWIDTH", "200")
        .output()
        .unwrap();
    let text = String::from_utf8(man.stdout).unwrap();
    for line in [
        "ark-catalog-container-tool-login - Print a password for a repository, to pipe into docker login",
        "ark-catalog-container-tool --login [OPTIONS] <NAME>",
        "--access <ACCESS>",
        "| docker login --username AWS --password-stdin HOST",
        "podman, skopeo and buildah need --tls-verify=false",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let page = fs::read_to_string(sandbox.path("man1/docker-credential-ark.1")).unwrap();
    assert!(page.contains(env!("CARGO_PKG_VERSION")), "{page}");
}

#[test]
fn unwritable_manual_folder_is_reported() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    let run = sandbox.run("--man file/man1");
    assert_eq!(
        (run.code, run.stderr.contains("error: cannot write file/man1: ")),
        (1, true),
        "{run:?}"
    );
}
