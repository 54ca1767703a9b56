//! Spans, as a subscriber sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::backend::{CreateOptions, Observed};
use ark_container_core::model::{OrganizationId, RegistryHost};
use ark_container_core::push::{ImageSource, Push};
use ark_container_core::testing::SampleImage;
use ark_container_core::{RegistryBackend, RegistryBackendExt};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

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

/// Keeps every span of the library that has ended.
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
fn a_push_is_a_span_with_its_call_and_its_requests_inside() {
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
            let source = ImageSource::oci_layout(layout.path());
            let push = Push::new(Arc::new(backend), &path, source);
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
