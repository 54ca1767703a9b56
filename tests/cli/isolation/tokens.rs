//! Passwords of every kind, and a registry that they are tried on.

use std::time::Duration;

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::{Access, OrganizationId, Scope};

use crate::curl::Curl;
use crate::sandbox::{Sandbox, Server};

/// A registry that is served, and what makes its passwords.
pub(crate) struct Tokens<'a> {
    sandbox: &'a Sandbox,
    server: Server,
}

impl<'a> Tokens<'a> {
    pub(crate) fn serve(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, server: sandbox.serve() }
    }

    /// One who shows a password that the command line gave to a principal.
    pub(crate) fn logged_in(&self, principal: &str, login: &str) -> Curl {
        let run = self.sandbox.run_as(principal, login);
        assert_eq!(run.code, 0, "{login}: {run:?}");
        self.with(Some(run.stdout.trim_end()))
    }

    /// One who may do everything in a whole organization.
    pub(crate) fn organization_wide(&self, organization: &str) -> Curl {
        let backend = self.backend();
        let organization: OrganizationId = organization.parse().unwrap();
        let scope = Scope::organizations(backend.stage(), [organization], Access::Delete);
        self.with(Some(&password(&backend, &scope)))
    }

    /// One whose password was good for everything in a repository, and has expired.
    pub(crate) fn expired(&self, path: &str) -> Curl {
        let backend = self.backend().with_token_lifetime(Duration::ZERO);
        let scope = Scope::repository(path.parse().unwrap(), Access::Delete);
        self.with(Some(&password(&backend, &scope)))
    }

    /// One who shows this password, or none.
    pub(crate) fn with(&self, password: Option<&str>) -> Curl {
        Curl::new(self.server.host(), password)
    }

    /// The password of the server's own making for everything in a repository.
    pub(crate) fn password(&self, path: &str) -> String {
        let scope = Scope::repository(path.parse().unwrap(), Access::Delete);
        password(&self.backend(), &scope)
    }

    fn backend(&self) -> LocalBackend {
        LocalBackend::open(Some(&self.sandbox.path("data/ark/registry"))).unwrap()
    }
}

fn password(backend: &LocalBackend, scope: &Scope) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let credentials = runtime.block_on(backend.credentials(scope, &Default::default())).unwrap();
    credentials.password.expose().to_owned()
}
