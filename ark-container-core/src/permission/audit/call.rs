//! [`CallAudit`]: what is recorded of one call.

use std::sync::Arc;
use std::time::SystemTime;

use super::event::{Details, Event, Subject};
use super::{AUDIT_TARGET, AuditFile, RequestId};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{Access, Reference, RepositoryPath, Scope, ScopeTarget};
use crate::observability::DECISIONS;
use crate::permission::{Action, Decision};

/// Records what is decided and done in one call; its events have one request id.
#[derive(Debug, Clone)]
pub(in crate::permission) struct CallAudit {
    file: Option<AuditFile>,
    request: RequestId,
    principal: Arc<Principal>,
}

impl CallAudit {
    /// Begins the record of a new call, also in `file` if there is one.
    pub(in crate::permission) fn begin(
        file: Option<&AuditFile>,
        principal: &Arc<Principal>,
    ) -> Self {
        Self { file: file.cloned(), request: RequestId::next(), principal: Arc::clone(principal) }
    }

    /// Records a decision. Nothing of what was decided about may be done before.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Temporary`] when it cannot be written to the file: the call
    /// must fail, whatever was decided.
    pub(in crate::permission) async fn decision(
        &self,
        action: Action,
        subject: Subject<'_>,
        decision: &Decision,
    ) -> Result<()> {
        count_decision(action, if decision.is_allowed() { "allow" } else { "deny" });
        self.record([self.event(action, subject, Details::decision(decision))]).await
    }

    /// Records the denial of what the policy could not decide about, because of `error`.
    ///
    /// # Errors
    /// Those of [`decision`](Self::decision).
    pub(in crate::permission) async fn undecided(
        &self,
        action: Action,
        subject: Subject<'_>,
        error: &Error,
    ) -> Result<()> {
        count_decision(action, "deny");
        self.record([self.event(action, subject, Details::undecided(error))]).await
    }

    /// Records credentials, once for each organization that they reach.
    ///
    /// # Errors
    /// Those of [`decision`](Self::decision): the credentials must not be handed out.
    pub(in crate::permission) async fn credentials(
        &self,
        credentials: &RegistryCredentials,
    ) -> Result<()> {
        let access = credentials.scope.access();
        let event = |subject, scope| {
            let details = Details::credentials(credentials, scope);
            self.event(furthest(access), subject, details)
        };
        match credentials.scope.target() {
            ScopeTarget::Repository(path) => {
                self.record([event(Subject::Repository(path), credentials.scope.clone())]).await
            }
            ScopeTarget::Organizations(stage, organizations) => {
                let events = organizations.iter().map(|organization| {
                    let scope = Scope::organizations(stage.clone(), [*organization], access);
                    event(Subject::Organization(*organization), scope)
                });
                self.record(events).await
            }
        }
    }

    /// Stands for a change that is about to be made; it is to be finished with the change's result.
    pub(in crate::permission) fn change(&self, action: Action, path: &RepositoryPath) -> Change {
        Change { call: self.clone(), action, path: path.clone(), reference: None, finished: false }
    }

    fn event<'a>(
        &'a self,
        action: Action,
        subject: Subject<'a>,
        details: Details<'a>,
    ) -> Event<'a> {
        Event::new(SystemTime::now(), self.request, &self.principal, action, subject, details)
    }

    async fn record<'a>(&self, events: impl IntoIterator<Item = Event<'a>>) -> Result<()> {
        let Some((file, lines)) = self.traced(events)? else { return Ok(()) };
        file.append(lines).await
    }

    /// Tells `tracing`, and answers what else is to be written, and where to.
    fn traced<'a>(
        &self,
        events: impl IntoIterator<Item = Event<'a>>,
    ) -> Result<Option<(&AuditFile, String)>> {
        let mut lines = String::new();
        for event in events {
            event.trace();
            if self.file.is_some() {
                let line = event.line();
                lines += &line
                    .map_err(|error| Error::failed("cannot write an event").with_source(error))?;
            }
        }
        Ok(self.file.as_ref().map(|file| (file, lines)))
    }
}

fn count_decision(action: Action, decision: &'static str) {
    metrics::counter!(DECISIONS, "action" => action.as_str(), "decision" => decision).increment(1);
}

/// The action that goes furthest of those that an access opens.
fn furthest(access: Access) -> Action {
    match access {
        Access::Pull => Action::Pull,
        Access::Push => Action::Push,
        Access::Delete => Action::DeleteImage,
    }
}

/// A change that is being made.
///
/// One that is dropped unfinished, as when its call is cancelled, is recorded with the outcome
/// `unknown`.
#[derive(Debug)]
#[must_use = "a change that is not finished is recorded as one of unknown outcome"]
pub(in crate::permission) struct Change {
    call: CallAudit,
    action: Action,
    path: RepositoryPath,
    reference: Option<Reference>,
    finished: bool,
}

impl Change {
    /// The same change, of one image of the repository.
    pub(in crate::permission) fn of_image(mut self, reference: &Reference) -> Self {
        self.reference = Some(reference.clone());
        self
    }

    /// Records what became of it.
    ///
    /// It cannot be undone, so an `ERROR` event tells what cannot be written to the file.
    pub(in crate::permission) async fn finish<T>(mut self, result: &Result<T>) {
        self.finished = true;
        let details = Details::change(self.reference.as_ref(), result.as_ref().err());
        if let Err(error) = self.call.record([self.event(details)]).await {
            self.tell_unrecorded(&error);
        }
    }

    fn event<'a>(&'a self, details: Details<'a>) -> Event<'a> {
        self.call.event(self.action, Subject::Repository(&self.path), details)
    }

    fn tell_unrecorded(&self, error: &Error) {
        tracing::error!(
            target: AUDIT_TARGET,
            request = %self.call.request,
            repository = %self.path,
            action = self.action.as_str(),
            error = error as &(dyn std::error::Error + 'static),
            "a change is not in the audit file"
        );
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Nobody is left who could wait for it, and at the end of a program no other thread either.
        let event = [self.event(Details::change_of_unknown_outcome(self.reference.as_ref()))];
        let recorded = self.call.traced(event).and_then(|written| match written {
            Some((file, lines)) => file.append_blocking(&lines),
            None => Ok(()),
        });
        if let Err(error) = recorded {
            self.tell_unrecorded(&error);
        }
    }
}
