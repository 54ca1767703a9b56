//! [`HttpImages`]: puts images as a client of the registry does.

use std::net::SocketAddr;
use std::sync::Arc;

use ark_container_core::model::{Access, Reference, RegistryHost, RepositoryPath, Scope};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::PutImage;
use ark_container_core::{BoxError, RegistryBackend};
use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Url};

/// Puts images over HTTP, with a backend's credentials for a push to the one repository.
pub(crate) struct HttpImages {
    client: Client,
    origin: String,
    backend: Arc<dyn RegistryBackend>,
}

impl HttpImages {
    /// To a registry of this machine, which speaks plain HTTP.
    pub(crate) fn new(address: SocketAddr, backend: Arc<dyn RegistryBackend>) -> Self {
        Self { client: Client::new(), origin: format!("http://{address}"), backend }
    }

    /// To a registry that speaks HTTPS.
    pub(crate) fn of_registry(host: &RegistryHost, backend: Arc<dyn RegistryBackend>) -> Self {
        Self { client: Client::new(), origin: format!("https://{host}"), backend }
    }
}

#[async_trait]
impl PutImage for HttpImages {
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        let scope = Scope::repository(path.clone(), Access::Push);
        let credentials = self.backend.credentials(&scope, &Default::default()).await?;
        let request = |method: Method, url: Url| -> RequestBuilder {
            let password = credentials.password.expose();
            self.client.request(method, url).basic_auth(&credentials.username, Some(password))
        };
        let base = Url::parse(&format!("{}/v2/{path}/", self.origin))?;
        for (digest, content) in image.blobs() {
            let begun = request(Method::POST, base.join("blobs/uploads/")?).send().await?;
            let begun = begun.error_for_status()?;
            let location = begun.headers().get(LOCATION).ok_or("no location")?.to_str()?;
            let mut upload = begun.url().join(location)?;
            upload.query_pairs_mut().append_pair("digest", &digest.to_string());
            let put = request(Method::PUT, upload).body(content.to_vec()).send().await?;
            put.error_for_status()?;
        }
        let manifest = request(Method::PUT, base.join(&format!("manifests/{reference}"))?)
            .header(CONTENT_TYPE, image.media_type())
            .body(image.manifest().to_vec());
        manifest.send().await?.error_for_status()?;
        Ok(())
    }
}
