//! Repositories in the account that look as if they were an organization's: ones that another program
//! created, of an organization whose name continues ours, and with our tag.

use ark_container_core::model::{Access, Organizations, Scope, Stage};
use ark_container_core::{Error, RegistryBackend as _};
use ark_container_fakes::aws::{AccessKey, ListedRepository};
use aws_sdk_ecr::types::ImageIdentifier;
use futures_util::TryStreamExt as _;

use crate::access::Deployment;
use crate::access::people::{OURS, PEOPLE, THEIRS};
use crate::access::wall::{Walls, path};
use crate::aws::cloud::code;
use crate::registry::server::Client;

/// What is in the account beside `app` of ours: each is tagged as ours by whoever created it.
fn pretenders() -> Vec<String> {
    vec![
        format!("prod/{OURS}x/app"),
        format!("prod/{OURS}-x/app"),
        format!("prod/x{OURS}/app"),
        format!("prod/{OURS}"),
        format!("prod2/{OURS}/app"),
        format!("x/prod/{OURS}/app"),
        format!("prod/{}/app", OURS.to_string().replace('-', "")),
        format!("prod/{THEIRS}/{OURS}/app"),
        "djt-mapping-pipeline-ecr".to_owned(),
        format!("{OURS}/app"),
    ]
}

async fn account() -> Deployment {
    let tagged =
        |name: String| ListedRepository::new(name).with_tag("ark:organization", OURS.to_string());
    let deployment =
        Deployment::start_with(|aws| aws.list(pretenders().into_iter().map(tagged))).await;
    deployment.furnish([path(OURS, "app")]).await;
    deployment
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_an_organizations_repository_is_in_no_listing() {
    let deployment = account().await;
    for walls in Walls::ALL {
        let backend = deployment.backend(walls, &PEOPLE[0]);
        for asked in [Organizations::from(OURS), Organizations::All] {
            let listed = backend.list_repositories(&asked).try_collect::<Vec<_>>().await;
            if walls == Walls::Aws && asked == Organizations::All {
                assert!(matches!(listed, Err(Error::PermissionDenied { .. })), "{listed:?}");
                continue;
            }
            let rows = listed.unwrap();
            let paths: Vec<_> = rows.iter().map(|row| row.url.path().clone()).collect();
            let ours = paths.iter().filter(|path| path.organization() == OURS);
            assert_eq!(ours.collect::<Vec<_>>(), [&path(OURS, "app")], "{walls:?}");
            assert!(paths.iter().all(|found| found.organization() == OURS));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_nothing_whose_name_continues_or_precedes_ones_organization() {
    let deployment = account().await;
    // Past the library, with the token alone: nobody narrows the session.
    let token = deployment.issuer.token(&PEOPLE[0].token()).unwrap();
    let nobody = AccessKey::new("AKIANOBODY", "nothing");
    let sts = aws_sdk_sts::Client::new(&deployment.cloud.config(&nobody, None));
    let assumed = sts
        .assume_role_with_web_identity()
        .role_arn("arn:aws:iam::095412845506:role/ark-access")
        .role_session_name("alice")
        .web_identity_token(token);
    let session = assumed.send().await.unwrap().credentials.unwrap();
    let ecr = deployment.cloud.ecr_of(&session);
    let image = ImageIdentifier::builder().image_tag("v1").build();
    let get =
        |name: String| ecr.batch_get_image().repository_name(name).image_ids(image.clone()).send();
    let own = get(path(OURS, "app").to_string()).await.unwrap();
    assert_eq!(own.images().len(), 1);
    for name in pretenders() {
        assert_eq!(code(get(name.clone()).await), "AccessDeniedException", "{name}");
        let deleted = ecr.delete_repository().repository_name(&name).force(true).send().await;
        assert_eq!(code(deleted), "AccessDeniedException", "{name}");
        let again = ecr.create_repository().repository_name(format!("{name}/new")).send().await;
        assert_eq!(code(again), "AccessDeniedException", "{name}");
    }
    // Nor does the password for the whole organization, at the registry.
    let backend = deployment.bearer(&PEOPLE[0].token());
    let scope = Scope::organizations(Stage::default(), [OURS], Access::Push);
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let address = credentials.host.as_str().parse().unwrap();
    let client = Client::new(address, credentials.password.expose());
    for name in pretenders() {
        let answer = client.get(&format!("/v2/{name}/tags/list")).await;
        assert!(answer.status.is_client_error(), "{name}: {answer:?}");
    }
}
