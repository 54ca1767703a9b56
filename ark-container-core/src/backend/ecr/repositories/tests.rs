use std::sync::Mutex;

use futures_util::TryStreamExt;
use proptest::prelude::*;
use serde_json::json;

use super::super::scripted::{ACCOUNT, Answer, Asked, Scripted, described};
use super::*;
use crate::backend::{CreateOptions, RegistryBackend};
use crate::error::Error;
use crate::model::OrganizationId;

const ORGANIZATION: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

fn name(number: usize) -> String {
    format!("prod/{ORGANIZATION}/n{number}")
}

/// The names of a listing of everything.
async fn names(backend: &EcrBackend) -> Result<Vec<String>> {
    let rows = backend.list_repositories(&Organizations::All);
    rows.map_ok(|row| row.url.path().to_string()).try_collect().await
}

/// A page with these names, and the token of the next one.
fn page_of(names: &[String], next: Option<&str>) -> Answer {
    let rows: Vec<_> = names.iter().map(|name| described(name)).collect();
    let mut page = json!({"repositories": rows});
    if let Some(next) = next {
        page["nextToken"] = next.into();
    }
    Answer::ok(page)
}

/// A registry whose pages are given, with tokens that are their numbers.
fn paged(pages: Vec<Vec<String>>) -> impl Fn(&Asked) -> Answer {
    move |asked| {
        let number: usize = match asked.input["nextToken"].as_str() {
            Some(token) => token.parse().unwrap(),
            None => 0,
        };
        let next = (number + 1 < pages.len()).then(|| (number + 1).to_string());
        page_of(&pages[number], next.as_deref())
    }
}

#[tokio::test]
async fn repositories_of_nobody_and_of_other_stages_are_skipped() {
    let rows = [
        "djt-mapping-pipeline-ecr".to_owned(),
        format!("dev/{ORGANIZATION}/a"),
        format!("prod/{}/a", ORGANIZATION.to_uppercase()),
        "prod/no-guid/a".to_owned(),
        format!("prod/{ORGANIZATION}"),
        name(1),
    ];
    let aws = Scripted::new(move |_| page_of(&rows, None));
    assert_eq!(names(&aws.backend).await.unwrap(), [name(1)]);
    assert_eq!(aws.asked()[0].input["maxResults"], 1000);
}

#[tokio::test]
async fn short_and_empty_pages_are_followed() {
    let aws = Scripted::new(paged(vec![vec![], vec![name(1)], vec![], vec![], vec![name(2)]]));
    assert_eq!(names(&aws.backend).await.unwrap(), [name(1), name(2)]);
    assert_eq!(aws.asked().len(), 5);
}

#[tokio::test]
async fn a_token_that_comes_again_is_an_error() {
    for cycle in [vec!["a", "a"], vec!["a", "b", "a"]] {
        let tokens = Mutex::new(cycle.into_iter());
        let aws = Scripted::new(move |_| page_of(&[], tokens.lock().unwrap().next()));
        let error = names(&aws.backend).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
        assert!(error.to_string().contains("one page token twice"), "{error}");
    }
}

#[tokio::test]
async fn the_first_rows_come_after_the_first_page() {
    let aws = Scripted::new(paged(vec![vec![name(1)], vec![name(2)]]));
    let mut rows = aws.backend.list_repositories(&Organizations::All);
    assert!(rows.try_next().await.unwrap().is_some());
    assert_eq!(aws.asked().len(), 1);
}

#[tokio::test]
async fn a_row_says_what_aws_says() {
    let mut row = described(&name(1));
    row["imageTagMutability"] = "IMMUTABLE_WITH_EXCLUSION".into();
    row["imageTagMutabilityExclusionFilters"] =
        json!([{"filterType": "WILDCARD", "filter": "dev-*"}]);
    let aws = Scripted::new(move |_| Answer::ok(json!({"repositories": [row]})));
    let rows: Vec<_> =
        aws.backend.list_repositories(&Organizations::All).try_collect().await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.tag_mutability, crate::backend::TagMutability::Immutable);
    assert_eq!(row.mutability_exclusions, ["dev-*".parse().unwrap()].into());
    let since = row.created_at.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_millis(), 1_790_000_000_500);
    assert_eq!(row.resource_tags, None);
}

#[tokio::test]
async fn an_empty_list_of_another_account_is_an_error() {
    let aws = Scripted::built(|builder| builder, "111122223333", |_| page_of(&[], None));
    let error = names(&aws.backend).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["095412845506", "111122223333", "user/alice"] {
        assert!(text.contains(part), "{text}");
    }
    let own = Scripted::new(|_| page_of(&[], None));
    assert_eq!(names(&own.backend).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn rows_of_another_account_are_an_error() {
    let mut row = described(&name(1));
    row["registryId"] = "111122223333".into();
    let aws = Scripted::new(move |_| Answer::ok(json!({"repositories": [row]})));
    let error = names(&aws.backend).await.unwrap_err();
    assert!(error.to_string().contains("for the account 111122223333"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_repository_comes_exactly_once_or_there_is_an_error(
        sizes in proptest::collection::vec(0usize..4, 1..8),
        faults in proptest::collection::vec(0u8..8, 0..12),
    ) {
        let mut next = 0..;
        let pages: Vec<Vec<String>> = sizes
            .iter()
            .map(|size| (&mut next).take(*size).map(name).collect())
            .collect();
        let all: Vec<String> = pages.concat();
        let faults = Mutex::new(faults.into_iter());
        let pages = paged(pages);
        let aws = Scripted::new(move |asked| match faults.lock().unwrap().next() {
            Some(0) => Answer::error(400, "ThrottlingException", "Rate exceeded"),
            Some(1) => Answer::error(500, "ServerException", "try again"),
            Some(2) => Answer::raw(503, "<html>".to_owned()),
            _ => pages(asked),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(names(&aws.backend)) {
            Ok(listed) => prop_assert_eq!(listed, all),
            Err(error) => prop_assert!(error.is_temporary(), "{:?}", error),
        }
    }
}

#[tokio::test]
async fn a_throttled_page_is_asked_for_again() {
    let throttled = Mutex::new(2);
    let pages = paged(vec![vec![name(1)], vec![name(2)]]);
    let aws = Scripted::new(move |asked| {
        let mut left = throttled.lock().unwrap();
        if asked.input["nextToken"] == "1" && *left > 0 {
            *left -= 1;
            return Answer::error(400, "ThrottlingException", "Rate exceeded");
        }
        pages(asked)
    });
    assert_eq!(names(&aws.backend).await.unwrap(), [name(1), name(2)]);
    assert_eq!(aws.asked().len(), 4);
}

#[tokio::test]
async fn no_organization_asks_nothing() {
    let aws = Scripted::new(|_| page_of(&[], None));
    let none: Vec<_> =
        aws.backend.list_repositories(&Organizations::none()).try_collect().await.unwrap();
    assert!(none.is_empty() && aws.asked().is_empty());
}

#[tokio::test]
async fn a_full_scan_asks_no_index() {
    let rows = [name(1), format!("prod/{}/a", OrganizationId::GLOBAL)];
    let aws = Scripted::built(
        |builder| builder.full_scan(true),
        super::super::scripted::ACCOUNT,
        move |_| page_of(&rows, None),
    );
    let organizations = Organizations::from(OrganizationId::TBD);
    let listed: Vec<_> = aws.backend.list_repositories(&organizations).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(aws.operations(), ["DescribeRepositories"]);
}

#[tokio::test]
async fn repository_url_has_configured_host() {
    for host in [
        "095412845506.dkr.ecr-fips.us-east-1.amazonaws.com",
        "095412845506.dkr-ecr.us-east-1.on.aws",
    ] {
        let answer = |asked: &Asked| match asked.operation.as_str() {
            "CreateRepository" => Answer::ok(json!({"repository": described(&name(1))})),
            "ListTagsForResource" => Answer::ok(json!({"tags": []})),
            _ => page_of(&[name(1)], None),
        };
        let aws = Scripted::at(host, |builder| builder, ACCOUNT, answer);
        let path = name(1).parse().unwrap();
        let created = aws.backend.create_repository(&path, &CreateOptions::default()).await;
        let found = aws.backend.describe_repository(&path).await.unwrap();
        let listed = aws.backend.list_repositories(&Organizations::All);
        let listed: Vec<_> = listed.try_collect().await.unwrap();
        for url in [&created.unwrap().url, &found.url, &listed[0].url] {
            assert_eq!(url.to_string(), format!("{host}/{path}"));
            assert_eq!(url.host(), &aws.backend.host());
        }
    }
}
