//! What the library tells of itself while it works: spans and events for [`tracing`], counters and
//! durations for the [`metrics`] facade. Where a program installs no subscriber and no recorder, it
//! costs next to nothing.
//!
//! Names, fields and labels are stable: they change as the public interface does. No field and no label
//! is a secret, and no label is a name that somebody chose, so that their number stays small.
//!
//! A [`Catalog`](crate::Catalog) tells of every call that its policy allows. Other backends do when they are
//! [`Observed`].
//!
//! # Spans
//!
//! | span | level | fields | around |
//! |---|---|---|---|
//! | `ark.operation` | info | `action`, `resource`, `outcome` | a call of an [`Observed`] backend |
//! | `ark.transfer` | info | `transfer`, `repository`, `outcome` | a push, pull or copy |
//! | `ark.request` | debug | `method`, `url`, `status` | one try of a request to a registry, up to its answer's head |
//!
//! `url` is without its query. `status` stays empty where no answer came.
//!
//! # Counters and durations
//!
//! A duration is a histogram of seconds.
//!
//! | name | labels | of |
//! |---|---|---|
//! | [`OPERATIONS`], [`OPERATION_SECONDS`] | `action`, `outcome` | calls of an [`Observed`] backend; a listing to its last row |
//! | [`TRANSFERS`], [`TRANSFER_SECONDS`] | `transfer`, `outcome` | pushes, pulls and copies |
//! | [`TRANSFER_BYTES`] | `transfer`, `state` | bytes of blobs of a transfer that is done: `sent`, `fetched`, `mounted`, `skipped` |
//! | [`REQUESTS`], [`REQUEST_SECONDS`] | `method`, `status` | requests to registries; the status is `none` where no answer came |
//! | [`RETRIES`] | | waits before another try |
//! | [`LOGINS`] | `source` | logins that a [cache](crate::credentials) answered, by where it had them: `memory`, `disk`, `registry` |
//! | [`DECISIONS`] | `action`, `decision` | decisions of a policy: `allow`, `deny` |
//! | [`SERVED`], [`SERVED_SECONDS`] | `method`, `kind`, `status` | requests that the local registry answered; the status is `none` where the client went away before |
//! | [`SERVED_BYTES`] | `direction` | bytes of their bodies: `received`, `sent` |
//!
//! `action` is an [`Action`](crate::model::Action), `describe-image` or `credentials`. `transfer` is `push`, `pull` or `copy`.
//! `outcome` is `done`, the [kind](crate::Error::kind) of the error, or `dropped` where the caller lost
//! interest first.
//!
//! [`Observed`]: crate::backend::Observed

#[cfg(feature = "push")]
mod request;
mod run;

#[cfg(feature = "push")]
use metrics::counter;
use metrics::{Unit, describe_counter, describe_histogram};

#[cfg(feature = "push")]
pub(crate) use request::ObservedRequest;
pub(crate) use run::Run;

/// Calls of a backend.
pub const OPERATIONS: &str = "ark_container_operations_total";
/// How long calls of a backend take.
pub const OPERATION_SECONDS: &str = "ark_container_operation_seconds";
/// Pushes, pulls and copies.
pub const TRANSFERS: &str = "ark_container_transfers_total";
/// How long pushes, pulls and copies take.
pub const TRANSFER_SECONDS: &str = "ark_container_transfer_seconds";
/// Bytes of blobs that transfers dealt with.
pub const TRANSFER_BYTES: &str = "ark_container_transfer_bytes_total";
/// Requests to registries.
pub const REQUESTS: &str = "ark_container_requests_total";
/// How long registries take to begin an answer.
pub const REQUEST_SECONDS: &str = "ark_container_request_seconds";
/// Waits before another try.
pub const RETRIES: &str = "ark_container_retries_total";
/// Logins that a cache answered.
pub const LOGINS: &str = "ark_container_logins_total";
/// Decisions of a policy.
pub const DECISIONS: &str = "ark_container_decisions_total";
/// Requests that the local registry answered.
pub const SERVED: &str = "ark_container_served_total";
/// How long the local registry takes, to the end of the answer's body.
pub const SERVED_SECONDS: &str = "ark_container_served_seconds";
/// Bytes of the bodies that the local registry received and sent.
pub const SERVED_BYTES: &str = "ark_container_served_bytes_total";

/// Tells the recorder of the program what each counter and duration means.
///
/// Recorders that show descriptions, such as Prometheus', want it once, after they are installed.
///
/// ```
/// ark_container_core::observability::describe();
/// ```
pub fn describe() {
    describe_counter!(OPERATIONS, "Calls of a backend.");
    describe_histogram!(OPERATION_SECONDS, Unit::Seconds, "How long calls of a backend take.");
    describe_counter!(TRANSFERS, "Pushes, pulls and copies.");
    describe_histogram!(TRANSFER_SECONDS, Unit::Seconds, "How long transfers take.");
    describe_counter!(TRANSFER_BYTES, Unit::Bytes, "Bytes of blobs that transfers dealt with.");
    describe_counter!(REQUESTS, "Requests to registries.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "How long registries take to answer.");
    describe_counter!(RETRIES, "Waits before another try.");
    describe_counter!(LOGINS, "Logins that a cache answered.");
    describe_counter!(DECISIONS, "Decisions of a policy.");
    describe_counter!(SERVED, "Requests that the local registry answered.");
    describe_histogram!(SERVED_SECONDS, Unit::Seconds, "How long the local registry takes.");
    describe_counter!(SERVED_BYTES, Unit::Bytes, "Bytes of bodies that the local registry moved.");
}

/// Counts the bytes of blobs that a transfer dealt with, by what became of them.
#[cfg(feature = "push")]
pub(crate) fn count_bytes<const N: usize>(
    transfer: &'static str,
    states: [(&'static str, u64); N],
) {
    for (state, bytes) in states {
        counter!(TRANSFER_BYTES, "transfer" => transfer, "state" => state).increment(bytes);
    }
}
