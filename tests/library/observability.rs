//! Spans, counters and durations that a program with a recorder and a subscriber gets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::backend::{CreateOptions, Observed};
use ark_container_core::identity::single_user;
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RegistryHost, RepositoryPath, Scope,
};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::Pull;
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{RegistryBackend, RegistryBackendExt, observability};
use futures_util::{StreamExt, TryStreamExt};
use metrics_exporter_prometheus::PrometheusBuilder;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Returns the export of a program that did `work` on one thread.
fn exported<F: Future<Output = ()>>(work: impl FnOnce() -> F) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        observability::describe();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    });
    exporter.render()
}

/// Returns the value of one line of an export.
fn value(exported: &str, name_and_labels: &str) -> Option<f64> {
    let line = exported.lines().find_map(|line| line.strip_prefix(name_and_labels))?;
    line.trim().parse().ok()
}

#[track_caller]
fn assert_value(exported: &str, name_and_labels: &str, expected: f64) {
    assert_eq!(value(exported, name_and_labels), Some(expected), "{name_and_labels}\n{exported}");
}

fn observed(
    folder: &TempDir,
    principal: &str,
) -> (LocalBackend, Observed<Permissioned<LocalBackend>>) {
    let local = LocalBackend::open(Some(folder.path())).unwrap();
    let principal = single_user(principal.parse().unwrap());
    let guarded = Permissioned::new(local.clone(), StandardPolicy, principal);
    (local, Observed::new(guarded))
}

fn path(backend: &dyn RegistryBackend, name: &str) -> RepositoryPath {
    backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap()
}

#[test]
fn calls_are_counted_by_action_and_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let exported = exported(async || {
        let (_, backend) = observed(&folder, "user:alice");
        let there = path(&backend, "a/b");
        for _ in 0..2 {
            backend.create_repository(&there, &CreateOptions::default()).await.unwrap();
        }
        backend.describe_repository(&path(&backend, "a/c")).await.unwrap_err();
        let (_, robots) = observed(&folder, "robot:nightly");
        robots.create_repository(&there, &CreateOptions::default()).await.unwrap_err();
        let all = Organizations::All;
        backend.list_repositories(&all).try_collect::<Vec<_>>().await.unwrap();
        backend.list_repositories(&all).next().await.unwrap().unwrap();
        backend.list_images(&path(&backend, "a/c")).try_collect::<Vec<_>>().await.unwrap_err();
        backend
            .credentials(&Scope::repository(there, Access::Pull), &Default::default())
            .await
            .unwrap();
        drop(backend.describe_repository(&path(&backend, "a/b")));
    });
    let operations = |action: &str, outcome: &str| {
        format!("ark_container_operations_total{{action=\"{action}\",outcome=\"{outcome}\"}}")
    };
    assert_value(&exported, &operations("create-repository", "done"), 2.0);
    assert_value(&exported, &operations("create-repository", "not_permitted"), 1.0);
    assert_value(&exported, &operations("describe-repository", "not_found"), 1.0);
    assert_value(&exported, &operations("list-repositories", "done"), 1.0);
    assert_value(&exported, &operations("list-repositories", "dropped"), 1.0);
    assert_value(&exported, &operations("list-images", "not_found"), 1.0);
    assert_value(&exported, &operations("credentials", "done"), 1.0);
    let seconds =
        "ark_container_operation_seconds_count{action=\"create-repository\",outcome=\"done\"}";
    assert_value(&exported, seconds, 2.0);
    let decisions = |decision: &str| {
        format!(
            "ark_container_decisions_total{{action=\"create-repository\",decision=\"{decision}\"}}"
        )
    };
    assert_value(&exported, &decisions("allow"), 2.0);
    assert_value(&exported, &decisions("deny"), 1.0);
    assert!(exported.contains("# HELP ark_container_operations_total Calls of a backend."));
    assert!(!exported.contains("alice") && !exported.contains("a/b"), "no label is a name");
}

#[test]
fn transfers_and_requests_are_counted_on_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let layout = tempfile::tempdir().unwrap();
    SampleImage::new("hello").write_oci_layout(layout.path(), None).unwrap();
    let exported = exported(async || {
        let (local, backend) = observed(&folder, "user:alice");
        let path = path(&backend, "a/b");
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let registry = Registry::bind(local, ([127, 0, 0, 1], 0).into()).unwrap();
        let endpoint = RegistryHost::from(registry.local_addr());
        let serving = tokio::spawn(registry.serve(std::future::pending()));
        let backend: Arc<dyn RegistryBackend> = Arc::new(backend);
        let source = ImageSource::oci_layout(layout.path());
        let push = Push::new(backend.clone(), &path, source).with_tag("v1".parse().unwrap());
        let push = push.with_endpoint(endpoint.clone());
        push.clone().await.unwrap();
        push.await.unwrap();
        let (reference, folder) = ("v2".parse().unwrap(), layout.path().join("pulled"));
        let pull = Pull::new(backend, &path, reference, folder);
        pull.with_endpoint(endpoint).await.unwrap_err();
        serving.abort();
    });
    let transfers = |transfer: &str, outcome: &str| {
        format!("ark_container_transfers_total{{transfer=\"{transfer}\",outcome=\"{outcome}\"}}")
    };
    assert_value(&exported, &transfers("push", "done"), 2.0);
    assert_value(&exported, &transfers("pull", "not_found"), 1.0);
    let bytes = |state: &str| {
        let labels = format!("{{transfer=\"push\",state=\"{state}\"}}");
        value(&exported, &format!("ark_container_transfer_bytes_total{labels}")).unwrap()
    };
    assert!(bytes("sent") > 0.0);
    assert_eq!(bytes("sent"), bytes("skipped"), "the second push sent nothing\n{exported}");
    let sent = value(&exported, "ark_container_requests_total{method=\"PUT\",status=\"201\"}");
    let served = exported.lines().filter(|line| {
        line.starts_with("ark_container_served_total{method=\"PUT\"") && line.contains("\"201\"")
    });
    let served = served.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    assert_eq!(sent, Some(served.sum()), "{exported}");
    assert!(
        value(&exported, "ark_container_served_bytes_total{direction=\"received\"}") > Some(0.0)
    );
}

/// The fields of a span.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// A span that ended: its name, its fields, and the name of the span around it.
#[derive(Debug, Clone)]
struct Ended {
    name: &'static str,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

/// Collects every span of the library that has ended.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Ended>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        if span.metadata().target().starts_with("ark_container_core") {
            let parent = span.parent().map(|parent| parent.name());
            let fields = span.extensions_mut().remove::<Fields>().unwrap().0;
            self.0.lock().unwrap().push(Ended { name: span.name(), parent, fields });
        }
    }
}

#[test]
fn push_span_contains_calls_and_requests() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let folder = tempfile::tempdir().unwrap();
    let layout = tempfile::tempdir().unwrap();
    SampleImage::new("hello").write_oci_layout(layout.path(), None).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let local = LocalBackend::open(Some(folder.path())).unwrap();
            let backend = Observed::new(local.clone());
            let path = backend.repository_path(OrganizationId::TBD, &"a/b".parse().unwrap());
            let path = path.unwrap();
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
            let registry = Registry::bind(local, ([127, 0, 0, 1], 0).into()).unwrap();
            let endpoint = RegistryHost::from(registry.local_addr());
            let serving = tokio::spawn(registry.serve(std::future::pending()));
            let push = Push::new(Arc::new(backend), &path, ImageSource::oci_layout(layout.path()));
            push.with_tag("v1".parse().unwrap()).with_endpoint(endpoint).await.unwrap();
            serving.abort();
        });
    });
    let spans = spans.0.lock().unwrap();
    let named =
        |name: &str| spans.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>();

    let [transfer] = &named("ark.transfer")[..] else { panic!("{spans:?}") };
    assert_eq!(transfer.fields["transfer"], "push");
    assert_eq!(transfer.fields["repository"], format!("prod/{}/a/b", OrganizationId::TBD));
    assert_eq!(transfer.fields["outcome"], "done");

    let operations = named("ark.operation");
    let actions: Vec<_> =
        operations.iter().map(|span| (&*span.fields["action"], span.parent)).collect();
    assert_eq!(actions, [("create-repository", None), ("credentials", Some("ark.transfer"))]);

    let requests = named("ark.request");
    assert!(requests.len() >= 5, "{requests:?}");
    for request in &requests {
        assert_eq!(request.parent, Some("ark.transfer"), "{request:?}");
        assert!(request.fields["url"].starts_with("http://127.0.0.1:"), "{request:?}");
        assert!(!request.fields["url"].contains('?'), "{request:?}");
        let status: u16 = request.fields["status"].parse().unwrap();
        assert!((200..500).contains(&status), "{request:?}");
    }
}
