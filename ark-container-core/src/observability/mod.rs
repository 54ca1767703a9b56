//! Spans, counters and durations of the library, for [`tracing`] and the [`metrics`] facade.
//!
//! The cost is negligible if a program installs no subscriber and no recorder.
//!
//! Names, fields and labels are stable like the public API. No field and no label contains a secret. Labels
//! contain no names that users choose, so the number of label values stays small.
//!
//! A [`Catalog`](crate::Catalog) reports every call that its policy allows. Other backends report calls if
//! they are [`Observed`].
//!
//! # Spans
//!
//! | span | level | fields | scope |
//! |---|---|---|---|
//! | `ark.operation` | info | `action`, `resource`, `outcome` | a call of an [`Observed`] backend |
//! | `ark.transfer` | info | `transfer`, `repository`, `outcome` | a push, pull or copy |
//! | `ark.request` | debug | `method`, `url`, `status` | one attempt of a request to a registry, up to the response headers |
//!
//! `url` has no query. `status` is empty if there was no response.
//!
//! # Counters and durations
//!
//! A duration is a histogram of seconds.
//!
//! | name | labels | content |
//! |---|---|---|
//! | [`OPERATIONS`], [`OPERATION_SECONDS`] | `action`, `outcome` | calls of an [`Observed`] backend; a listing until its last item |
//! | [`TRANSFERS`], [`TRANSFER_SECONDS`] | `transfer`, `outcome` | pushes, pulls and copies |
//! | [`TRANSFER_BYTES`] | `transfer`, `state` | bytes of blobs in completed transfers: `sent`, `fetched`, `mounted`, `skipped` |
//! | [`REQUESTS`], [`REQUEST_SECONDS`] | `method`, `status` | requests to registries; the status is `none` if there was no response |
//! | [`RETRIES`] | | waits before a retry |
//! | [`LOGINS`] | `source` | logins from a [cache](crate::credentials), by the source: `memory`, `disk`, `registry` |
//! | [`DECISIONS`] | `action`, `decision` | decisions of a policy: `allow`, `deny` |
//! | [`SERVED`], [`SERVED_SECONDS`] | `method`, `kind`, `status` | requests to the local registry; the status is `none` if the client disconnected first |
//! | [`SERVED_BYTES`] | `direction` | bytes of their bodies: `received`, `sent` |
//!
//! `action` is an [`Action`](crate::model::Action), `describe-image` or `credentials`. `transfer` is
//! `push`, `pull` or `copy`. `outcome` is `done`, the [kind](crate::Error::kind) of the error, or `dropped`
//! if the caller cancelled the call.
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
/// Duration of calls of a backend.
pub const OPERATION_SECONDS: &str = "ark_container_operation_seconds";
/// Pushes, pulls and copies.
pub const TRANSFERS: &str = "ark_container_transfers_total";
/// Duration of pushes, pulls and copies.
pub const TRANSFER_SECONDS: &str = "ark_container_transfer_seconds";
/// Bytes of blobs in completed transfers.
pub const TRANSFER_BYTES: &str = "ark_container_transfer_bytes_total";
/// Requests to registries.
pub const REQUESTS: &str = "ark_container_requests_total";
/// Time until registries begin a response.
pub const REQUEST_SECONDS: &str = "ark_container_request_seconds";
/// Waits before a retry.
pub const RETRIES: &str = "ark_container_retries_total";
/// Logins from a cache.
pub const LOGINS: &str = "ark_container_logins_total";
/// Decisions of a policy.
pub const DECISIONS: &str = "ark_container_decisions_total";
/// Requests that the local registry answered.
pub const SERVED: &str = "ark_container_served_total";
/// Duration of requests to the local registry, until the end of the response body.
pub const SERVED_SECONDS: &str = "ark_container_served_seconds";
/// Bytes of the bodies that the local registry received and sent.
pub const SERVED_BYTES: &str = "ark_container_served_bytes_total";

/// Registers the description of each counter and duration with the recorder of the program.
///
/// Recorders that show descriptions, such as the Prometheus exporter, need one call after their installation.
///
/// ```
/// ark_container_core::observability::describe();
/// ```
pub fn describe() {
    describe_counter!(OPERATIONS, "Calls of a backend.");
    describe_histogram!(OPERATION_SECONDS, Unit::Seconds, "Duration of calls of a backend.");
    describe_counter!(TRANSFERS, "Pushes, pulls and copies.");
    describe_histogram!(TRANSFER_SECONDS, Unit::Seconds, "Duration of transfers.");
    describe_counter!(TRANSFER_BYTES, Unit::Bytes, "Bytes of blobs in completed transfers.");
    describe_counter!(REQUESTS, "Requests to registries.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time until registries respond.");
    describe_counter!(RETRIES, "Waits before a retry.");
    describe_counter!(LOGINS, "Logins from a cache.");
    describe_counter!(DECISIONS, "Decisions of a policy.");
    describe_counter!(SERVED, "Requests that the local registry answered.");
    describe_histogram!(
        SERVED_SECONDS,
        Unit::Seconds,
        "Duration of requests to the local registry."
    );
    describe_counter!(
        SERVED_BYTES,
        Unit::Bytes,
        "Bytes of bodies that the local registry received and sent."
    );
}

/// Counts the bytes of the blobs of a transfer, by state.
#[cfg(feature = "push")]
pub(crate) fn count_bytes<const N: usize>(
    transfer: &'static str,
    states: [(&'static str, u64); N],
) {
    for (state, bytes) in states {
        counter!(TRANSFER_BYTES, "transfer" => transfer, "state" => state).increment(bytes);
    }
}
