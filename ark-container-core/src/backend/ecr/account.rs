//! Whether the caller's account is the registry's.

use super::backend::EcrBackend;
use crate::error::{Error, Result};

/// Who AWS takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The account, 12 digits; it may be another than the registry's.
    pub account: String,
    /// The user, role session or federated user, as an ARN.
    pub arn: String,
}

impl EcrBackend {
    /// Who AWS takes the caller for, asked once for all clones (STS GetCallerIdentity, which needs no
    /// permission). By token, it is the session of the access role.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without AWS credentials or with some that AWS does not take;
    /// [`Error::Temporary`] if AWS cannot be reached.
    pub async fn caller(&self) -> Result<&Caller> {
        self.caller_cell().get_or_try_init(|| self.ask_for_caller()).await
    }

    async fn ask_for_caller(&self) -> Result<Caller> {
        let identity = self.sts().await?.get_caller_identity().send().await;
        let identity = identity.map_err(|error| self.call("ask AWS who calls").error(error))?;
        match (identity.account, identity.arn) {
            (Some(account), Some(arn)) => Ok(Caller { account, arn }),
            _ => Err(Error::Failed {
                message: "AWS does not say who calls".to_owned(),
                source: None,
            }),
        }
    }

    /// Makes sure that an answer came from the registry's account.
    pub(super) async fn check_registry(&self, registry_id: Option<&str>) -> Result<()> {
        match registry_id {
            Some(account) if account != self.ecr_host().account() => {
                let arn = self.caller().await.map(|caller| caller.arn.as_str()).ok();
                Err(self.account_mismatch(account, arn))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that the caller's account is the registry's, where no answer told.
    ///
    /// Who cannot ask is not in the wrong account for that.
    pub(super) async fn check_caller(&self) -> Result<()> {
        match self.caller().await {
            Ok(caller) if caller.account != self.ecr_host().account() => {
                Err(self.account_mismatch(&caller.account, Some(&caller.arn)))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the caller's account is not known");
                Ok(())
            }
        }
    }

    fn account_mismatch(&self, account: &str, arn: Option<&str>) -> Error {
        let as_whom = match arn {
            Some(arn) => format!(" ({arn})"),
            None => String::new(),
        };
        let credentials = self.config().credentials_source();
        Error::invalid(format!(
            "{self} is in the AWS account {}, but the credentials of {credentials}{as_whom} are \
             for the account {account}: choose another profile or registry",
            self.ecr_host().account(),
        ))
    }
}
