use ark_container_core::backend::Repository;
use ark_container_core::testing::MockRegistryBackend;
use futures_util::stream::{self, StreamExt};

use super::*;

#[tokio::test]
async fn urls_of_all_repositories_are_listed() {
    let url = "127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo";
    let mut backend = MockRegistryBackend::new();
    backend
        .expect_list_repositories()
        .once()
        .returning(move |_| stream::iter([Ok(Repository::new(url.parse().unwrap()))]).boxed());
    assert_eq!(urls(&Catalog::from_backend_as_administrator(backend)).await.unwrap(), [url]);
}
