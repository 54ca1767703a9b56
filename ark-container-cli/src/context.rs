//! [`Context`]: the settings of a run, and access to the catalog.

use std::fmt;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::catalog::{CatalogBuilder, Origin, Settings, organization_of, print_once};
use ark_container_core::model::{
    ImageName, ImageReference, OrganizationId, RegistryLocation, RepositoryPath, Tag,
};
use ark_container_core::{Catalog, Error, quote_for_shell};
use clap::ValueEnum as _;

use crate::arguments::{GlobalOptions, OrganizationArgs, PROGRAM, RepositoryArgs};
use crate::failure::Failure;
use crate::hint::{self, ImageOrigin, Target};
use crate::output::{Format, Output};

/// Environment variable with the format of results and errors.
pub(crate) const OUTPUT_VARIABLE: &str = "ARK_OUTPUT";

/// The settings of a run, from the option, the environment, the configuration file or the default.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    /// Options that choose the registry and the identity, each after a space, for commands in hints.
    pub(crate) typed_options: String,
    builder: CatalogBuilder,
}

impl Context {
    /// Reads the settings.
    ///
    /// # Errors
    /// A usage failure that names the option, variable or file if a setting is invalid.
    pub(crate) fn new(options: &GlobalOptions) -> Result<Self, Failure> {
        let mut builder = Catalog::builder().with_environment();
        if let Some(text) = &options.registry {
            let origin = Origin::Flag("--registry");
            let registry =
                text.parse().map_err(|error| Failure::from(Error::Parse(error)).within(&origin))?;
            builder = builder.with_origin(origin).with_registry(registry);
        }
        if let Some(profile) = &options.profile {
            builder = builder.with_origin(Origin::Flag("--profile")).with_profile(profile);
        }
        if let Some(file) = &options.memberships {
            builder = builder.with_memberships(file);
        }
        let settings = builder.settings()?;
        check_aws_options(options, settings.registry())?;
        let format = match options.output {
            Some(format) => format,
            None => output_format(&settings)?,
        };
        let output = Output { format, quiet: options.quiet };
        let typed_options = typed_options(options, &settings);
        Ok(Self { settings, output, typed_options, builder })
    }

    /// Returns the context for another registry.
    pub(crate) fn with_registry(self, registry: RegistryLocation) -> Result<Self, Failure> {
        let origin = self.settings.registry_origin().clone();
        let builder = self.builder.with_origin(origin).with_registry(registry);
        Ok(Self { settings: builder.settings()?, builder, ..self })
    }

    /// Sets the maximum number of attempts of each call to AWS.
    pub(crate) fn with_max_attempts(self, max_attempts: u32) -> Self {
        Self { builder: self.builder.with_max_attempts(max_attempts), ..self }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self.settings.registry(), RegistryLocation::Local { .. })
    }

    /// Returns the organization of the option, or of the settings if there is no option.
    ///
    /// # Errors
    /// A usage failure that names the option or variable if it is not a GUID.
    pub(crate) fn organization(
        &self,
        option: Option<&str>,
    ) -> Result<Option<OrganizationId>, Failure> {
        match option {
            Some(text) => text.parse().map(Some).map_err(|error| {
                Failure::from(Error::Parse(error)).within(Origin::Flag("--organization"))
            }),
            None => Ok(self.settings.organization()?),
        }
    }

    /// Returns the organization for an operation that needs one.
    pub(crate) fn required_organization(
        &self,
        option: Option<&str>,
    ) -> Result<OrganizationId, Failure> {
        self.organization(option)?.ok_or_else(|| {
            Failure::usage("no organization is given").with_help(format!(
                "give --organization GUID, or set it once: export ARK_ORGANIZATION=GUID\n\
                 {PROGRAM} --whoami{} shows your organizations",
                self.typed_options
            ))
        })
    }

    /// Opens the catalog.
    pub(crate) async fn connect(&self) -> Result<Catalog, Failure> {
        self.connect_with(|builder| builder).await
    }

    /// Opens the catalog with an option of the operation.
    pub(crate) async fn connect_with(
        &self,
        configure: impl FnOnce(CatalogBuilder) -> CatalogBuilder,
    ) -> Result<Catalog, Failure> {
        let catalog = configure(self.builder.clone()).connect().await?;
        self.note_default_registry(&catalog);
        Ok(catalog)
    }

    /// Opens the catalog for an operation on one repository, given by the name, path or URL of the repository or
    /// of one of its images.
    pub(crate) async fn connect_to(
        &self,
        repository: &str,
        owner: &OrganizationArgs,
    ) -> Result<(Catalog, Target), Failure> {
        let ImageName { repository, .. } = ImageName::parse(repository).map_err(Error::Parse)?;
        let organization = self.owner_of(repository, owner.organization.as_deref())?;
        let catalog = self.connect().await?.in_organization(organization);
        let path = path_in(&catalog, repository)?;
        Ok((catalog, self.target(path)))
    }

    /// Opens the catalog for an operation that reads one image, given by the name, path or URL of a repository,
    /// or as `docker://…` in any registry. Returns the name of the image for the catalog; the default tag is
    /// `latest`.
    pub(crate) async fn connect_to_image(
        &self,
        image: &str,
        owner: &OrganizationArgs,
    ) -> Result<(Catalog, String, ImageOrigin), Failure> {
        if image.starts_with(ImageReference::PREFIX) {
            let origin = ImageOrigin::Registry(image.parse().map_err(Error::Parse)?);
            return Ok((self.connect().await?, image.to_owned(), origin));
        }
        let ImageName { repository: name, reference } =
            ImageName::parse(image).map_err(Error::Parse)?;
        let reference = reference.unwrap_or_else(|| Tag::latest().into());
        let (catalog, target) = self.connect_to(name, owner).await?;
        Ok((catalog, target.image(&reference), ImageOrigin::Repository(target)))
    }

    /// Returns the options that choose organization, registry and identity, for commands in hints.
    pub(crate) fn typed_with(&self, owner: &OrganizationArgs) -> String {
        let organization = owner.organization.as_deref().map(quote_for_shell);
        let option = organization.map(|organization| format!(" --organization {organization}"));
        option.unwrap_or_default() + &self.typed_options
    }

    /// Rejects an image for an operation that also deletes other images of the repository.
    pub(crate) fn refuse_image(&self, repository: &RepositoryArgs) -> Result<(), Failure> {
        let RepositoryArgs { name, owner } = repository;
        let image = ImageName::parse(name).map_err(Error::Parse)?;
        match image.reference {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "{name} is one image of the repository {}",
                image.repository
            ))
            .with_help(format!(
                "delete this image alone: {PROGRAM} --delete-image {name}{}",
                self.typed_with(owner)
            ))),
        }
    }

    /// Returns a repository as the target of an operation.
    pub(crate) fn target(&self, path: RepositoryPath) -> Target {
        Target { path, typed_options: self.typed_options.clone() }
    }

    /// Returns the command that serves the registry.
    pub(crate) fn serve_command(&self) -> String {
        format!("{PROGRAM} --serve{}", self.typed_options)
    }

    /// Returns the organization of a repository: the one in its path or URL, or else the one of the option or the
    /// settings.
    pub(crate) fn owner_of(
        &self,
        repository: &str,
        option: Option<&str>,
    ) -> Result<OrganizationId, Failure> {
        let given = self.organization(option)?;
        match (organization_of(repository)?, given) {
            (Some(owner), Some(other)) if option.is_some() && owner != other => {
                Err(Failure::usage(format!(
                    "the repository belongs to the organization {owner}, not to {other}"
                )))
            }
            (Some(owner), _) | (None, Some(owner)) => Ok(owner),
            (None, None) => self.required_organization(option),
        }
    }

    /// Opens the folder of a local registry, to serve it or to configure clients for it.
    pub(crate) fn open_local(&self) -> Result<LocalBackend, Failure> {
        let RegistryLocation::Local { directory } = self.settings.registry() else {
            let message = format!("{} is not a folder on this machine", self.settings.registry());
            return Err(Failure::usage(message)
                .with_help("for a registry on this machine: --registry local:"));
        };
        let local = LocalBackend::open(directory.as_deref())?;
        self.note_default_registry(&local);
        Ok(local)
    }

    /// Prints a note with the default registry if none was chosen, once on each machine.
    fn note_default_registry(&self, registry: &impl fmt::Display) {
        let is_default = *self.settings.registry_origin() == Origin::Default;
        let note =
            format!("the registry is {registry}, since none was chosen (--registry, ARK_REGISTRY)");
        if is_default && !self.output.quiet && print_once(&note) {
            self.output.note(&note);
        }
    }

    /// Adds the help that depends on the identity of the caller.
    pub(crate) fn advise(&self, failure: Failure) -> Failure {
        match self.settings.identity() {
            Ok(identity) => hint::for_identity(failure, &identity, &self.settings),
            // The failure is the missing identity.
            Err(_) => failure,
        }
    }
}

/// Returns the path of a repository, given by name, path or URL.
pub(crate) fn path_in(catalog: &Catalog, repository: &str) -> Result<RepositoryPath, Failure> {
    catalog.path(repository).map_err(|error| hint::for_name(repository, catalog, error))
}

/// Returns the options that choose the registry and the identity, for commands in hints.
fn typed_options(options: &GlobalOptions, settings: &Settings) -> String {
    let registry = options.registry.as_ref().map(|_| settings.registry().to_string());
    let memberships = options.memberships.as_ref().map(|file| file.display().to_string());
    let typed = [
        ("--registry", registry),
        ("--memberships", memberships),
        ("--profile", options.profile.clone()),
    ];
    let typed = typed.into_iter().filter_map(|(option, value)| Some((option, value?)));
    typed.map(|(option, value)| format!(" {option} {}", quote_for_shell(&value))).collect()
}

/// Rejects options for AWS that would have no effect. The region is part of the registry's host, so `--region`
/// must be that region.
fn check_aws_options(options: &GlobalOptions, registry: &RegistryLocation) -> Result<(), Failure> {
    let RegistryLocation::Ecr { host, .. } = registry else {
        let typed = [("--profile", &options.profile), ("--region", &options.region)];
        return match typed.into_iter().find(|(_, value)| value.is_some()) {
            None => Ok(()),
            Some((option, _)) => {
                Err(Failure::usage(format!("{option}: {registry} is not in AWS")).with_help(
                    "choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com",
                ))
            }
        };
    };
    match &options.region {
        Some(region) if region != host.region() => Err(Failure::usage(format!(
            "--region {region}: the registry {host} is in {}",
            host.region()
        ))
        .with_help("omit --region, or choose the registry of that region with --registry")),
        _ => Ok(()),
    }
}

/// Returns the format of the environment or of the configuration file. An empty variable is ignored.
fn output_format(settings: &Settings) -> Result<Format, Failure> {
    let variable = std::env::var_os(OUTPUT_VARIABLE).filter(|value| !value.is_empty());
    let (text, origin) = match (variable, settings.output()) {
        (Some(value), _) => {
            (value.to_string_lossy().into_owned(), Origin::Environment(OUTPUT_VARIABLE))
        }
        (None, Some((text, origin))) => (text.to_owned(), origin.clone()),
        (None, None) => return Ok(Format::default()),
    };
    Format::from_str(&text, false)
        .map_err(|_| Failure::usage(format!("{text:?} is neither table nor json")).within(origin))
}
