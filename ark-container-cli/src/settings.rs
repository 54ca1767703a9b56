//! What the program is to do it with: flag, then environment, then configuration file, then default.

use std::ops::Deref;

use ark_container_core::Error;
use ark_container_core::catalog::settings::{self as catalog, Environment, Given, SettingsError};
use ark_container_core::model::{OrganizationId, RegistryLocation};
use clap::ValueEnum as _;

use crate::arguments::{GlobalOptions, PROGRAM};
use crate::failure::{Failure, Kind};
use crate::output::Format;

pub(crate) use ark_container_core::catalog::settings::Origin;

const OUTPUT_VARIABLE: &str = "ARK_OUTPUT";

/// The settings of one run: those of every program that links the library, and how results are printed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    pub(crate) catalog: catalog::Settings,
}

impl Deref for Settings {
    type Target = catalog::Settings;

    fn deref(&self) -> &Self::Target {
        &self.catalog
    }
}

impl Settings {
    /// Gathers the settings.
    ///
    /// # Errors
    /// A usage failure that names the variable or file if a setting is not valid.
    pub(crate) fn resolve(
        options: &GlobalOptions,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let catalog = catalog::Settings::read(&given(options)?, environment)?;
        check_options(options, &catalog.registry)?;
        let format = match (options.output, output_variable(environment), &catalog.output) {
            (Some(format), _, _) => format,
            (None, Some(text), _) => output_format(&text, &Origin::Environment(OUTPUT_VARIABLE))?,
            (None, None, Some((text, origin))) => output_format(text, origin)?,
            (None, None, None) => Format::default(),
        };
        Ok(Self { format, catalog })
    }

    /// The same settings for another registry.
    pub(crate) fn for_registry(self, registry: RegistryLocation) -> Self {
        Self { catalog: self.catalog.for_registry(registry), ..self }
    }

    /// The organization that the flag, the environment or the configuration file names.
    ///
    /// # Errors
    /// A usage failure that names the variable if it is not a GUID.
    pub(crate) fn organization(
        &self,
        flag: Option<&str>,
    ) -> Result<Option<OrganizationId>, Failure> {
        match flag {
            Some(text) => text.parse().map(Some).map_err(|error| {
                Failure::from(Error::Parse(error)).within(Origin::Flag("--organization"))
            }),
            None => Ok(self.catalog.organization()?),
        }
    }
}

/// What was typed of it.
fn given(options: &GlobalOptions) -> Result<Given, Failure> {
    let mut given = Given::default();
    if let Some(text) = &options.registry {
        let origin = Origin::Flag("--registry");
        let registry: RegistryLocation =
            text.parse().map_err(|error| Failure::from(Error::Parse(error)).within(&origin))?;
        given.registry = Some((registry, origin));
    }
    given.memberships.clone_from(&options.memberships);
    given.profile = options.profile.clone().map(|profile| (profile, Origin::Flag("--profile")));
    Ok(given)
}

/// Refuses what was typed for AWS where it cannot hold: it would be ignored in silence.
///
/// The region is in the registry's host, so an option can only agree with it.
fn check_options(options: &GlobalOptions, registry: &RegistryLocation) -> Result<(), Failure> {
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
        .with_help("leave --region out, or name that region's registry with --registry")),
        _ => Ok(()),
    }
}

/// What the environment says of the format; an empty variable is as good as none.
fn output_variable(environment: Environment<'_>) -> Option<String> {
    let value = environment(OUTPUT_VARIABLE).filter(|value| !value.is_empty());
    value.map(|value| value.to_string_lossy().into_owned())
}

fn output_format(text: &str, origin: &Origin) -> Result<Format, Failure> {
    Format::from_str(text, false)
        .map_err(|_| Failure::usage(format!("{text:?} is neither table nor json")).within(origin))
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let (place, error, help) = error.into_parts();
        let failure = Self::from(error);
        let failure = match place {
            Some(place) => failure.within(place),
            None => failure,
        };
        match help {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }
}

/// That an operation needs an organization and nothing names one.
pub(crate) fn missing_organization() -> Failure {
    Failure::new(Kind::Usage, "no organization is given").with_help(format!(
        "give --organization GUID, or set it once: export ARK_ORGANIZATION=GUID\n\
         {PROGRAM} --whoami shows your organizations"
    ))
}
