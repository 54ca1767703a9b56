//! What was decided and done: an event for each decision, each change and all credentials handed out.
//!
//! Every event goes to [`tracing`] with the target [`AUDIT_TARGET`], and where
//! [`Permissioned::with_audit`](super::Permissioned::with_audit) names an [`AuditFile`] also there,
//! as one line of JSON. No event has a secret in it. Rows that are left out of a listing are no
//! events.
//!
//! # Kinds of events
//!
//! A `decision` is recorded before anything is done about it. One that cannot be recorded is no
//! permission: the call fails.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"decision","request":"5f1c9a2b7d3e4f60-1","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"create-repository","decision":"allow","rule":"member","origin":"memberships.toml:3"}
//! {"time":"2026-07-14T09:21:07.312Z","event":"decision","request":"5f1c9a2b7d3e4f60-2","principal":"ingest-job:nightly","kind":"ingest-job","organization":"*","action":"list-repositories","decision":"deny","rule":"error","error":"cannot read memberships.toml: Permission denied"}
//! ```
//!
//! A `change` is recorded when it has been made or has failed. It cannot be undone, so one that the
//! file does not take is told to `tracing` as an event of level `ERROR`.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"change","request":"5f1c9a2b7d3e4f60-1","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"create-repository","outcome":"done"}
//! {"time":"2026-07-14T09:21:07.312Z","event":"change","request":"5f1c9a2b7d3e4f60-3","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"delete-image","reference":"latest","outcome":"failed","error":"repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video does not exist"}
//! ```
//!
//! `credentials` are recorded before they are handed out, once for each organization that they reach,
//! and are not handed out if that fails.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"credentials","request":"5f1c9a2b7d3e4f60-4","principal":"robot:build","kind":"robot","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","action":"pull","scope":"repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/*:pull","expires_at":"2026-07-14T10:21:07.000Z","narrowing":"scoped"}
//! ```
//!
//! # Fields
//!
//! | field | of | what it says |
//! |---|---|---|
//! | `time` | all | when: RFC 3339 in UTC, to the millisecond. Not a field of `tracing`'s events |
//! | `event` | all | `decision`, `change` or `credentials` |
//! | `request` | all | the call that it belongs to, which tells it apart from every other call of any process |
//! | `principal` | all | who asked, such as `user:alice` |
//! | `kind` | all | what they are: `user`, `robot` or `ingest-job` |
//! | `organization` | all | which organization it is about: a GUID, or `*` in a decision for a listing of all that exist |
//! | `repository` | all | its path; absent where it is not about one repository |
//! | `action` | all | an [`Action`](super::Action)'s word, such as `create-repository`; of credentials the furthest that they allow |
//! | `decision` | `decision` | `allow` or `deny` |
//! | `rule` | `decision` | the policy's [rule](super::Decision::rule); `error` for a denial because the policy could not decide |
//! | `origin` | `decision` | where the rule is written, such as `memberships.toml:3`; absent for one that the policy has by itself |
//! | `reference` | `change` | which image was deleted: a tag or a digest; absent for a change of the repository |
//! | `outcome` | `change` | `done`, `failed`, or `unknown` when the call was cancelled on the way |
//! | `error` | `decision`, `change` | why it could not be decided or made, with its causes; otherwise absent |
//! | `scope` | `credentials` | what they open in this organization, as in a [`Scope`](crate::model::Scope)'s text |
//! | `expires_at` | `credentials` | until when, written like `time` |
//! | `narrowing` | `credentials` | `scoped` if the registry refuses everything beyond the scope, `caller` if it does not |
//!
//! The format is stable: later versions may add fields, kinds of events and words, and change or
//! drop none. A JSON schema of a line is in `schemas/audit.schema.json`. `jq` answers most questions:
//!
//! ```text
//! jq -c 'select(.event == "change" and .action == "delete-repository")' audit.jsonl
//! ```

mod call;
mod event;
mod file;
mod request_id;

pub use file::AuditFile;

pub(super) use call::{CallAudit, Change};
pub(super) use event::Subject;
use request_id::RequestId;

/// The target of every audit event.
///
/// The level is `INFO`, and the fields are those of [the format](self) but for `time`.
pub const AUDIT_TARGET: &str = "ark::audit";
