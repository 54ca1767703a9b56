//! Files and folders that another user of the machine prepared, with two real user ids.
//!
//! Only root can run processes of other users, so these tests do nothing without root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::{BINARY, MEMBERSHIPS, Run, Sandbox, TBD};

/// User id of the program.
const OWN_UID: u32 = 4711;

/// User id of the user that prepares files.
const OTHER_UID: u32 = 65534;

/// A folder `home` of [`OWN_UID`], and a folder `shared` that is writable for all users, as `/tmp`.
struct Machine {
    sandbox: Sandbox,
    program: PathBuf,
}

impl Machine {
    /// Creates the folders. Returns `None` if this process is not root.
    fn new() -> Option<Self> {
        let sandbox = Sandbox::new();
        if fs::metadata(sandbox.path("")).unwrap().uid() != 0 {
            return None;
        }
        // Other users may have no access to the build folder.
        let program = sandbox.path("program");
        fs::hard_link(BINARY, &program).or_else(|_| fs::copy(BINARY, &program).map(drop)).unwrap();
        for (folder, mode) in [("home", 0o755), ("shared", 0o1777), ("", 0o711)] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
            fs::set_permissions(sandbox.path(folder), Permissions::from_mode(mode)).unwrap();
        }
        chown(sandbox.path("home"), Some(OWN_UID), Some(OWN_UID)).unwrap();
        Some(Self { sandbox, program })
    }

    fn command(&self, program: &str, user: u32) -> Command {
        let mut command = self.sandbox.at_home(program);
        command.uid(user).gid(user).current_dir(self.sandbox.path("home"));
        for (variable, folder) in
            [("HOME", ""), ("XDG_CONFIG_HOME", "/config"), ("XDG_DATA_HOME", "/data")]
        {
            command.env(variable, self.sandbox.path(format!("home{folder}")));
        }
        command
    }

    /// Runs a shell line in `home` as a user.
    fn shell(&self, user: u32, line: &str) {
        let run = self.sandbox.finish(self.command("sh", user).args(["-ec", line]));
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }

    /// Returns the program in `home`, with the principal `user:alice`.
    fn alice(&self, line: &str) -> Command {
        let mut command = self.command(self.program.to_str().unwrap(), OWN_UID);
        command.args(line.split_whitespace()).env("ARK_PRINCIPAL", "user:alice");
        command
    }

    fn run(&self, line: &str) -> Run {
        self.sandbox.finish(&mut self.alice(line))
    }

    fn assert_refused(&self, mut command: Command, problem: &str) {
        let run = self.sandbox.finish(&mut command);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{command:?}: {run:?}");
        assert!(run.stderr.contains(problem), "{problem}: {run:?}");
    }
}

#[test]
fn prepared_memberships_link_is_rejected() {
    let Some(machine) = Machine::new() else { return };
    let create = format!("--quiet --create-repository a --organization {TBD}");
    assert_eq!(machine.run(&create).code, 0);
    let repository = format!("data/ark/registry/prod/{TBD}/a/_repository");
    let content = MEMBERSHIPS.replace("user:carol", "user:alice");
    machine.shell(OWN_UID, &format!("echo '{content}' > m.toml; cp m.toml {repository}/blob"));
    machine.shell(OTHER_UID, "ln -s ../home/m.toml ../shared/theirs; mkdir ../shared/folder");
    machine.shell(OTHER_UID, "ln -s ../../home/m.toml ../shared/folder/link");
    machine.shell(
        OWN_UID,
        "ln -s ../shared/theirs chain; ln -s m.toml own; ln -s ../home/m.toml ../shared/own",
    );
    machine.shell(OWN_UID, &format!("ln -s {repository}/blob blob; ln -s nowhere dangling"));
    let whoami = |file: &str| machine.alice(&format!("--whoami --memberships {file}"));
    for (file, problem) in [
        ("../shared/theirs", "belongs to another user"),
        ("chain", "belongs to another user"),
        ("../shared/folder/link", "folder belongs to another user, who could replace"),
        ("blob", "is in a repository, whose clients choose its content"),
    ] {
        machine.assert_refused(whoami(file), problem);
    }
    for file in ["own", "../shared/own", "m.toml"] {
        let run = machine.sandbox.finish(&mut whoami(file));
        assert_eq!(run.code, 0, "{file}: {run:?}");
        assert!(run.stdout.contains("administrator"), "{file}: {run:?}");
    }
    let run = machine.sandbox.finish(&mut whoami("dangling"));
    assert!(run.code == 1 && run.stderr.contains("nowhere, which does not exist"), "{run:?}");
}

#[test]
fn prepared_registry_folder_gets_no_password() {
    let Some(machine) = Machine::new() else { return };
    machine.shell(OTHER_UID, "mkdir -m 777 ../shared/theirs; ln -s ../home ../shared/link");
    machine.shell(OWN_UID, "mkdir -m 755 ../shared/own; mkdir -m 775 ../shared/group");
    let line = |operation: &str, folder: &str| {
        machine.alice(&format!(
            "--quiet {operation} a --organization {TBD} --registry local:../shared/{folder}"
        ))
    };
    for (folder, problem) in [
        ("theirs", "theirs belongs to another user"),
        ("theirs/below", "theirs belongs to another user, who could replace"),
        ("link/registry", "belongs to another user"),
        ("group", "help: restrict its permissions: chmod go-w ~/shared/group"),
    ] {
        for operation in ["--create-repository", "--login"] {
            machine.assert_refused(line(operation, folder), problem);
        }
    }
    for operation in ["--create-repository", "--login"] {
        let run = machine.sandbox.finish(&mut line(operation, "own"));
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert!(!machine.sandbox.path("shared/theirs/key").exists());
    assert!(!machine.sandbox.path("home/registry").exists());
    // A file that changes its owner later is rejected too.
    for name in ["key", "version"] {
        let file = machine.sandbox.path(format!("shared/own/{name}"));
        fs::write(&file, fs::read(&file).unwrap_or_default()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        chown(&file, Some(OTHER_UID), None).unwrap();
        machine.assert_refused(line("--login", "own"), "belongs to another user");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn prepared_configuration_is_refused() {
    let Some(machine) = Machine::new() else { return };
    machine.shell(OTHER_UID, "mkdir -p ../shared/config/ark ../shared/empty");
    machine.shell(OTHER_UID, "echo 'output = \"json\"' > ../shared/config/ark/container.toml");
    machine.shell(
        OWN_UID,
        "mkdir -p config/ark; echo 'output = \"json\"' > config/ark/container.toml",
    );
    let whoami = |folder: &str| {
        let mut command = machine.alice("--whoami");
        command.env("XDG_CONFIG_HOME", machine.sandbox.path(folder));
        command
    };
    machine.assert_refused(
        whoami("shared/config"),
        "the folder ~/shared/config belongs to another user",
    );
    machine.shell(OWN_UID, "chmod 664 config/ark/container.toml");
    machine.assert_refused(whoami("home/config"), "chmod go-w ~/home/config/ark/container.toml");
    machine.shell(OWN_UID, "chmod 644 config/ark/container.toml; ln -s config dotfiles");
    for folder in ["home/dotfiles", "shared/empty"] {
        let run = machine.sandbox.finish(&mut whoami(folder));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(run.stdout.starts_with('{'), folder == "home/dotfiles", "{run:?}");
    }
}

#[test]
fn outputs_do_not_follow_prepared_links() {
    let Some(machine) = Machine::new() else { return };
    machine.shell(
        OWN_UID,
        "mkdir folder; echo mine > folder/file; echo mine > ark-catalog-container-tool.1",
    );
    machine.shell(OTHER_UID, "ln -s ../home/folder ../shared/link; ln -s ../home ../shared/man");
    machine
        .shell(OTHER_UID, "ln -s ../home/folder/file ../shared/file; mkdir -m 777 ../shared/data");
    let create = format!("--quiet --create-repository a --organization {TBD}");
    assert_eq!(machine.run(&create).code, 0);
    machine.sandbox.write_image("home/image", "hello");
    let push = format!("--quiet --push a:1 --from oci:image --organization {TBD}");
    for line in
        ["--man ../shared/man".to_owned(), format!("{push} --metadata-file ../shared/link/file")]
    {
        machine.assert_refused(machine.alice(&line), "belongs to another user");
    }
    let run = machine.run(&push);
    assert_eq!(run.code, 0, "{run:?}");
    let pull = format!("--quiet --pull a:1 --to oci-archive:../shared/file --organization {TBD}");
    machine.assert_refused(machine.alice(&pull), "belongs to another user");
    let mut cmake = machine.alice("--cmake-dir");
    cmake.env("XDG_DATA_HOME", machine.sandbox.path("shared/data"));
    machine.assert_refused(cmake, "the folder ~/shared/data belongs to another user");
    for file in ["link/file", "file"] {
        let mut audited = machine.alice(&create.replace(" a ", " b "));
        audited.env("ARK_AUDIT_FILE", machine.sandbox.path("shared").join(file));
        let run = machine.sandbox.finish(&mut audited);
        assert!(run.code != 0 && run.stderr.contains("cannot write to the audit file"), "{run:?}");
    }
    for file in ["home/folder/file", "home/ark-catalog-container-tool.1"] {
        assert_eq!(fs::read_to_string(machine.sandbox.path(file)).unwrap(), "mine\n", "{file}");
    }
}

#[test]
fn cache_folder_of_another_user_is_not_used() {
    let Some(machine) = Machine::new() else { return };
    machine.shell(OWN_UID, "mkdir project; echo {} > project/package.json");
    machine.shell(
        OTHER_UID,
        "mkdir -p ../shared/ark; ln -s ../../home/project ../shared/ark/credentials",
    );
    let mut logout = machine.alice("--logout --all");
    let run = machine.sandbox.finish(logout.env("XDG_CACHE_HOME", machine.sandbox.path("shared")));
    assert!(run.code != 0 && run.stderr.contains("is a symbolic link, not a folder"), "{run:?}");
    assert!(machine.sandbox.path("home/project/package.json").exists());
}

/// Root has no id in the user namespace of `unshare`, which is part of util-linux.
#[test]
fn folders_of_root_are_trusted_in_a_sandbox_without_root() {
    let Some(machine) = Machine::new() else { return };
    let line = format!("--quiet --create-repository a --organization {TBD}");
    let mut sandboxed = machine.command("unshare", OWN_UID);
    sandboxed.args(["--user", "--map-user=54321", "--"]).arg(&machine.program);
    sandboxed.args(line.split(' ')).env("ARK_PRINCIPAL", "user:alice");
    let run = machine.sandbox.finish(&mut sandboxed);
    assert_eq!(run.code, 0, "{run:?}");
}
