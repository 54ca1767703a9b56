//! [`Renewals`]: new credentials for a client from somebody who lives less long than a client may.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};

use super::login::Authenticate;
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};

type Answer = oneshot::Sender<Result<RegistryCredentials>>;

/// The wishes of a client for new credentials, to be granted while work with it goes on.
#[derive(Debug)]
pub(crate) struct Renewals {
    wishes: mpsc::Receiver<Answer>,
}

#[derive(Debug)]
struct Asking(mpsc::Sender<Answer>);

impl Renewals {
    /// What to give to a client, and its wishes.
    pub(crate) fn new() -> (Arc<dyn Authenticate>, Self) {
        let (sender, wishes) = mpsc::channel(1);
        (Arc::new(Asking(sender)), Self { wishes })
    }

    /// Does the `work`, and meanwhile grants each wish by `renew`.
    pub(crate) async fn serve<T, F>(
        mut self,
        work: impl Future<Output = T>,
        renew: impl Fn() -> F,
    ) -> T
    where
        F: Future<Output = Result<RegistryCredentials>>,
    {
        let granting = async {
            while let Some(answer) = self.wishes.recv().await {
                // Whoever asked may have gone.
                let _ = answer.send(renew().await);
            }
            std::future::pending::<()>().await;
        };
        match select(Box::pin(work), Box::pin(granting)).await {
            Either::Left((done, _)) => done,
            Either::Right(((), working)) => working.await,
        }
    }
}

#[async_trait]
impl Authenticate for Asking {
    async fn renew(&self) -> Result<RegistryCredentials> {
        let over = || Error::unauthenticated("nobody is left to ask for new credentials");
        let (answer, granted) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| over())?;
        granted.await.map_err(|_| over())?
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::credentials::Password;
    use crate::model::{Access, OrganizationId, Scope, Stage};

    #[tokio::test]
    async fn wishes_are_granted_while_the_work_goes_on() {
        let (authenticate, renewals) = Renewals::new();
        let word = "borrowed".to_owned();
        let renew = async || {
            let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
            let (host, password) = ("localhost:1".parse().unwrap(), Password::new(word.clone()));
            Ok(RegistryCredentials::new(host, password, SystemTime::UNIX_EPOCH, scope))
        };
        let work = async { authenticate.renew().await.unwrap().password.expose().to_owned() };
        assert_eq!(renewals.serve(work, renew).await, word);
        let error = authenticate.renew().await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    }
}
