use serde_json::{Value, json};

use super::super::scripted::{ACCOUNT, Request, Response, Scripted, described};
use super::*;
use crate::backend::{CreateOptions, DeleteOptions, RegistryBackend};

const OTHER: OrganizationId = OrganizationId::from_u128(7);

fn name(organization: OrganizationId, number: usize) -> String {
    format!("prod/{organization}/n{number}")
}

fn ours(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| name(OrganizationId::TBD, number)).collect()
}

fn arn(name: &str) -> String {
    format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}")
}

fn index_page(arns: impl IntoIterator<Item = String>, next: &str) -> Response {
    let rows: Vec<_> =
        arns.into_iter().map(|arn| json!({"ResourceARN": arn, "Tags": []})).collect();
    Response::ok(json!({"ResourceTagMappingList": rows, "PaginationToken": next}))
}

fn index_of(names: &[String]) -> Response {
    index_page(names.iter().map(|name| arn(name)), "")
}

/// Returns a page of the account.
fn account_of(names: &[String], next: Option<&str>) -> Response {
    let rows: Vec<_> = names.iter().map(|name| described(name)).collect();
    Response::ok(json!({"repositories": rows, "nextToken": next}))
}

/// Describes the named repositories. As in ECR, one missing name fails the call.
fn by_name(request: &Request, exists: impl Fn(&str) -> bool) -> Response {
    let names = request.input["repositoryNames"].as_array().expect("names").iter();
    let names: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
    assert!((1..=100).contains(&names.len()), "{}", names.len());
    match names.iter().find(|name| !exists(name)) {
        Some(missing) => Response::error(
            400,
            "RepositoryNotFoundException",
            &format!("The repository with name '{missing}' does not exist"),
        ),
        None => account_of(&names, None),
    }
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Account,
    ByName,
    Index,
    Other,
}

fn call(request: &Request) -> Call {
    match request.operation.as_str() {
        "GetResources" => Call::Index,
        "DescribeRepositories" if request.input["repositoryNames"].is_null() => Call::Account,
        "DescribeRepositories" => Call::ByName,
        _ => Call::Other,
    }
}

fn calls(aws: &Scripted) -> Vec<Call> {
    aws.requests().iter().map(call).collect()
}

/// Returns an account with these repositories on the first of several pages.
fn large(
    first: Vec<String>,
    index: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Scripted {
    Scripted::new(move |request| match call(request) {
        Call::Account => account_of(&first, Some("1000")),
        Call::Index => index(request),
        _ => by_name(request, |_| true),
    })
}

fn denied() -> Response {
    Response::error(400, "AccessDeniedException", "no")
}

async fn names(
    backend: &EcrBackend,
    organizations: impl IntoIterator<Item = OrganizationId>,
) -> Result<Vec<String>> {
    let organizations: Organizations = organizations.into_iter().collect();
    let rows = backend.list_repositories(&organizations);
    let mut names: Vec<String> =
        rows.map_ok(|row| row.url.path().to_string()).try_collect().await?;
    names.sort();
    Ok(names)
}

async fn own_names(aws: &Scripted) -> Result<Vec<String>> {
    names(&aws.backend, [OrganizationId::TBD]).await
}

#[tokio::test]
async fn small_account_is_listed_completely() {
    let all = [ours([1, 2]), vec!["terraform".to_owned(), name(OTHER, 1)]].concat();
    let aws = Scripted::new(move |request| match call(request) {
        Call::Account => account_of(&all, None),
        _ => Response::error(500, "InternalServiceException", "no one waits for the index"),
    });
    assert_eq!(own_names(&aws).await.unwrap(), ours([1, 2]));
    assert_eq!(aws.operations(), ["DescribeRepositories"]);
    assert!(!aws.backend.has_listed_incompletely());
}

#[tokio::test]
async fn large_account_is_union_of_first_page_and_index() {
    let indexed = ours(0..100);
    // One repository of the page is also in the index, the other one has no tag.
    let first = ours([3, 1000]);
    let aws = large(first, move |_| index_of(&indexed));
    let mut expected = ours((0..100).chain([1000]));
    expected.sort();
    assert_eq!(own_names(&aws).await.unwrap(), expected);
    assert_eq!(calls(&aws), [Call::Account, Call::Index, Call::ByName]);
    assert!(aws.backend.has_listed_incompletely());
    let requests = aws.requests();
    assert_eq!(requests[2].input["repositoryNames"].as_array().unwrap().len(), 99);
    let input = &requests[1].input;
    assert_eq!(input["ResourcesPerPage"], 100);
    assert_eq!(input["ResourceTypeFilters"], json!(["ecr:repository"]));
    let organization = OrganizationId::TBD.to_string();
    assert_eq!(input["TagFilters"], json!([{"Key": "ark:organization", "Values": [organization]}]));
}

#[tokio::test]
async fn tag_does_not_override_the_repository_path() {
    let own = name(OrganizationId::TBD, 1);
    let foreign =
        [name(OTHER, 2), format!("dev/{}/n3", OrganizationId::TBD), "somewhere-else".to_owned()];
    let mut arns: Vec<String> = foreign.iter().map(|name| arn(name)).collect();
    arns.push(arn(&own));
    arns.push(arn(&own).replace(ACCOUNT, "111122223333"));
    arns.push(arn(&own).replace("us-east-1", "eu-west-1"));
    arns.push("arn:aws:s3:::bucket".to_owned());
    let aws = large(foreign.to_vec(), move |_| index_page(arns.clone(), ""));
    let expected = [own];
    assert_eq!(own_names(&aws).await.unwrap(), expected);
    assert_eq!(aws.requests()[2].input["repositoryNames"], json!(expected));
}

#[tokio::test]
async fn deleted_repository_in_the_index_is_left_out() {
    let aws = Scripted::new(|request| match call(request) {
        Call::Account => account_of(&[], Some("1000")),
        Call::Index => index_of(&ours(0..7)),
        _ => by_name(request, |name| !name.ends_with("n2") && !name.ends_with("n6")),
    });
    assert_eq!(own_names(&aws).await.unwrap(), ours([0, 1, 3, 4, 5]));
}

#[tokio::test]
async fn own_creation_is_listed_before_the_index_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let respond = |request: &Request| match (call(request), request.operation.as_str()) {
        (Call::Account, _) => account_of(&[], Some("1000")),
        (Call::Index, _) => index_of(&ours([1])),
        (Call::ByName, _) => by_name(request, |_| true),
        (_, "CreateRepository") => {
            let name = request.input["repositoryName"].as_str().unwrap();
            Response::ok(json!({"repository": described(name)}))
        }
        _ => Response::ok(json!({})),
    };
    let process = || {
        let folder = folder.path().to_owned();
        Scripted::built(|builder| builder.with_cache_directory(folder), ACCOUNT, respond)
    };
    let create = process();
    for name in [ours([2]), vec![name(OTHER, 1)]].concat() {
        let path = name.parse().unwrap();
        create.backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    }
    for list in [&create, &process()] {
        let before = calls(list).len();
        assert_eq!(own_names(list).await.unwrap(), ours([1, 2]));
        assert_eq!(calls(list).len() - before, 3, "one call describes all repositories");
    }
    let path = ours([2])[0].parse().unwrap();
    create.backend.delete_repository(&path, &DeleteOptions::default()).await.unwrap();
    assert_eq!(own_names(&process()).await.unwrap(), ours([1]));
}

#[tokio::test]
async fn short_and_empty_pages_of_the_index_are_followed() {
    let aws = large(Vec::new(), |request| match request.input["PaginationToken"].as_str() {
        None => index_page([], "a"),
        Some("a") => index_page([arn(&name(OrganizationId::TBD, 1))], "b"),
        _ => index_page([arn(&name(OrganizationId::TBD, 2))], ""),
    });
    assert_eq!(own_names(&aws).await.unwrap(), ours([1, 2]));
}

#[tokio::test]
async fn repeated_page_token_of_the_index_is_an_error() {
    let aws = large(Vec::new(), |_| index_page([], "a"));
    let error = own_names(&aws).await.unwrap_err();
    assert!(error.to_string().contains("one page token twice"), "{error}");
}

#[tokio::test]
async fn failure_of_a_later_index_page_is_an_error() {
    let aws = large(Vec::new(), |request| match request.input["PaginationToken"].as_str() {
        None => index_of(&ours([1])),
        _ => Response::error(500, "InternalServiceException", "no"),
    });
    assert_eq!(own_names(&aws).await.unwrap(), ours([1]));
    let aws = large(Vec::new(), |request| match request.input["PaginationToken"].as_str() {
        None => index_page([arn(&name(OrganizationId::TBD, 1))], "a"),
        _ => Response::error(500, "InternalServiceException", "no"),
    });
    let error = own_names(&aws).await.unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }), "{error:?}");
}

#[tokio::test]
async fn unavailable_index_falls_back_to_scan() {
    for (status, code, lasts) in
        [(400, "AccessDeniedException", true), (500, "InternalServiceException", false)]
    {
        let aws = Scripted::new(move |request| match call(request) {
            Call::Index => Response::error(status, code, "no"),
            _ if request.input["nextToken"].is_null() => account_of(&ours([1]), Some("1000")),
            _ => account_of(&[ours([2]), vec![name(OTHER, 1)]].concat(), None),
        });
        let listed = names(&aws.backend, [OrganizationId::TBD, OTHER]).await.unwrap();
        assert_eq!(listed.len(), 3, "{listed:?}");
        assert!(!aws.backend.has_listed_incompletely());
        let indexed = calls(&aws).iter().filter(|call| **call == Call::Index).count();
        let scanned = calls(&aws).iter().filter(|call| **call == Call::Account).count();
        assert_eq!(scanned, 2);
        own_names(&aws).await.unwrap();
        let again = calls(&aws).iter().filter(|call| **call == Call::Index).count();
        assert_eq!(indexed == again, lasts, "{code}");
    }
}

#[tokio::test]
async fn denial_of_the_account_is_cached() {
    let aws = Scripted::new(|request| match call(request) {
        Call::Account => denied(),
        Call::Index => index_of(&ours([1])),
        _ => by_name(request, |_| true),
    });
    assert_eq!(own_names(&aws).await.unwrap(), ours([1]));
    assert!(aws.backend.has_listed_incompletely());
    let before = calls(&aws).len();
    assert_eq!(own_names(&aws).await.unwrap(), ours([1]));
    assert_eq!(calls(&aws)[before..], [Call::Index, Call::ByName]);
}

#[tokio::test]
async fn denied_account_and_index_are_one_denial() {
    let aws = Scripted::new(|_| denied());
    let error = own_names(&aws).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    // One call with its retries.
    let requested = calls(&aws).iter().filter(|call| **call == Call::Account).count();
    assert!(requested <= 3, "{:?}", calls(&aws));
}

#[tokio::test]
async fn thirty_organizations_need_two_index_calls() {
    let aws = large(Vec::new(), |request| {
        let values = request.input["TagFilters"][0]["Values"].as_array().unwrap();
        assert!(values.len() <= 20, "{}", values.len());
        let organizations = values.iter().map(|value| value.as_str().unwrap().parse().unwrap());
        index_page(organizations.map(|organization| arn(&name(organization, 1))), "")
    });
    let organizations: Vec<_> = (0..30).map(OrganizationId::from_u128).collect();
    let expected: Vec<_> = organizations.iter().map(|id| name(*id, 1)).collect();
    assert_eq!(names(&aws.backend, organizations).await.unwrap(), expected);
    assert_eq!(calls(&aws), [Call::Account, Call::Index, Call::Index, Call::ByName]);
}

#[tokio::test]
async fn caller_of_another_account_scans() {
    let aws = Scripted::built(
        |builder| builder,
        "111122223333",
        |request| match call(request) {
            Call::Index => index_page([], ""),
            _ if request.input["nextToken"].is_null() => account_of(&ours([1]), Some("1000")),
            _ => account_of(&ours([2]), None),
        },
    );
    assert_eq!(own_names(&aws).await.unwrap(), ours([1, 2]));
    assert!(!aws.backend.has_listed_incompletely());
}
