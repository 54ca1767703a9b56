//! A registry that is served, with repositories of one organization.

use std::process::Command;

use crate::curl::Curl;
use crate::sandbox::{Sandbox, Server, TBD};
use crate::tools::Tools;

/// What clients reach, and the home that it has.
pub(crate) struct Served {
    // Dropped first: it must not write to a folder that is being removed.
    pub(crate) server: Server,
    pub(crate) sandbox: Sandbox,
}

impl Served {
    /// Serves a new registry with these repositories of [`TBD`].
    pub(crate) fn with_repositories(names: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        for name in names {
            sandbox.printed(&format!("--create-repository {name} --organization {TBD}"));
        }
        Self { server: sandbox.serve(), sandbox }
    }

    /// What a client calls something of a repository of [`TBD`], such as `a/b:v1`.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/prod/{TBD}/{name}", self.server.host())
    }

    /// A password for a repository.
    pub(crate) fn password(&self, name: &str, access: &str) -> String {
        let login = format!("--login {name} --organization {TBD} --access {access}");
        self.sandbox.printed(&login).trim_end().to_owned()
    }

    /// What prints the password for a repository.
    pub(crate) fn login_command(&self, name: &str) -> Command {
        self.sandbox.command(&format!("--login {name} --organization {TBD}"))
    }

    /// Tools that are logged in to one repository each, for pushing.
    pub(crate) fn tools(&self, names: &[&str]) -> Tools<'_> {
        let tools = Tools::new(&self.sandbox, self.server.host());
        for name in names {
            let login = tools.log_in("skopeo", &self.image(name), self.login_command(name));
            assert_eq!(login.code, 0, "{login:?}");
        }
        tools
    }

    /// curl, with a password for one repository.
    pub(crate) fn curl(&self, name: &str, access: &str) -> Curl {
        Curl::new(self.server.host(), Some(&self.password(name, access)))
    }
}
