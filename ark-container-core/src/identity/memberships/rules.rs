//! [`Rule`]: what members of a kind may do in one organization, instead of the standard rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::text::Text;
use crate::error::Result;
use crate::identity::PrincipalKind;
use crate::model::{Action, Effect, OrganizationId};

const WORDS: &str = "read, create, push, or an action such as pull or list-images";

/// What the members of one kind may do in one organization, instead of the standard rules.
///
/// It is about members alone, and never about deletion: administrators do everything, and strangers
/// nothing, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    actions: BTreeSet<Action>,
    origin: Arc<str>,
}

impl Rule {
    /// Whether it lets members of its kind do `action`.
    pub fn allows(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// Where it is written, such as `memberships.toml:12`.
    pub fn origin(&self) -> &Arc<str> {
        &self.origin
    }
}

/// One `[organization.rules]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RulesTable {
    user: Option<Spanned<Vec<Spanned<String>>>>,
    robot: Option<Spanned<Vec<Spanned<String>>>>,
    ingest_job: Option<Spanned<Vec<Spanned<String>>>>,
}

impl RulesTable {
    /// The rules that the table of `organization` has.
    pub(super) fn rules(
        &self,
        organization: OrganizationId,
        text: &Text<'_>,
    ) -> Result<BTreeMap<PrincipalKind, Rule>> {
        let tables = PrincipalKind::ALL.iter().copied().filter_map(|kind| {
            let words = match kind {
                PrincipalKind::User => &self.user,
                PrincipalKind::Robot => &self.robot,
                PrincipalKind::IngestJob => &self.ingest_job,
            };
            words.as_ref().map(|words| (kind, words))
        });
        tables.map(|(kind, words)| Ok((kind, rule(words, organization, text)?))).collect()
    }
}

fn rule(
    words: &Spanned<Vec<Spanned<String>>>,
    organization: OrganizationId,
    text: &Text<'_>,
) -> Result<Rule> {
    let start = words.span().start;
    if organization == OrganizationId::GLOBAL {
        let problem = "the global organization takes no rules: they would be everybody's";
        return Err(text.error(start, problem));
    }
    let mut actions = BTreeSet::new();
    for word in words.get_ref() {
        let start = word.span().start;
        let named = named(word.get_ref()).ok_or_else(|| {
            text.error(start, format!("{:?} is not a rule: expected {WORDS}", word.get_ref()))
        })?;
        if named.iter().any(|action| action.effect() == Effect::Removes) {
            let problem = format!("{:?} stays with administrators", word.get_ref());
            return Err(text.error(start, problem));
        }
        actions.extend(named);
    }
    Ok(Rule { actions, origin: text.origin(start) })
}

/// The actions that a word of the file stands for.
fn named(word: &str) -> Option<Vec<Action>> {
    match word {
        "read" => {
            let reads = |action: &Action| action.effect() == Effect::Reads;
            Some(Action::ALL.iter().copied().filter(reads).collect())
        }
        "create" => Some(vec![Action::CreateRepository]),
        _ => word.parse().ok().map(|action| vec![action]),
    }
}
