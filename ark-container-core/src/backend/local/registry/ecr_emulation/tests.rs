use http_body_util::BodyExt;
use serde_json::json;

use super::*;

const REPOSITORY: &str = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/app";
const MIB: u64 = 1024 * 1024;

fn dialect() -> EcrDialect {
    EcrDialect::new("095412845506")
}

fn id() -> UploadId {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

/// A part that is neither empty nor the last, and starts where the last one ended.
fn part(stored: u64) -> Part {
    Part { id: id(), stored, start: Some(stored), is_empty: false, is_last: false }
}

/// Status, content type and text of what is sent.
async fn sent(response: Response<Body>) -> (StatusCode, String, String) {
    let status = response.status();
    let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, content_type, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Status and the error that is sent in answer to a request for `end` of the repository.
async fn refused(status: StatusCode, code: Code, end: &str) -> (StatusCode, Value) {
    let target = Target::parse(&format!("/v2/{REPOSITORY}/{end}"));
    let response = dialect().refuse(ApiError::new(status, code, "as the local registry"), &target);
    let (status, _, text) = sent(response).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    (status, body["errors"][0].clone())
}

async fn error_of(error: ApiError) -> (StatusCode, Value) {
    let (status, _, text) = sent(error.into_response()).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    (status, body["errors"][0].clone())
}

#[test]
fn what_it_tells_sticks_at_the_first_part() {
    let dialect = dialect();
    dialect.take_part(&part(0)).unwrap();
    assert_eq!(dialect.told_after_part(&id(), 10 * MIB), 10 * MIB);
    for stored in [10 * MIB, 20 * MIB] {
        dialect.take_part(&part(stored)).unwrap();
        assert_eq!(dialect.told_after_part(&id(), stored + 10 * MIB), 10 * MIB);
    }
}

#[tokio::test]
async fn a_part_at_the_wrong_offset_is_told_in_ecrs_words() {
    let message = "First byte of the layer part is 0 instead of 11304960";
    for start in [Some(0), None] {
        let wrong = Part { start, ..part(11_304_960) };
        let (status, error) = error_of(dialect().take_part(&wrong).unwrap_err()).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(error, json!({ "code": "BLOB_UPLOAD_INVALID", "message": message }));
    }
}

#[tokio::test]
async fn a_small_part_with_a_successor_fails_the_upload_at_its_end() {
    let dialect = dialect();
    dialect.take_part(&part(0)).unwrap();
    dialect.take_part(&part(5 * MIB)).unwrap();
    dialect.take_part(&part(10 * MIB - 1)).unwrap();
    let last = Part { is_last: true, ..part(20 * MIB) };
    let (status, error) = error_of(dialect.take_part(&last).unwrap_err()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(error["message"], "All layer parts except the last part should be at least 5MB");
}

#[test]
fn the_last_part_may_be_small_whether_or_not_the_last_request_brings_it() {
    for is_empty in [false, true] {
        let dialect = dialect();
        dialect.take_part(&part(0)).unwrap();
        dialect.take_part(&part(5 * MIB)).unwrap();
        let start = (!is_empty).then_some(10 * MIB);
        let last = Part { start, is_empty, is_last: true, ..part(10 * MIB) };
        dialect.take_part(&last).unwrap();
    }
}

#[test]
fn an_empty_last_part_fails_once_on_demand() {
    let dialect = dialect();
    let last = Part { is_empty: true, is_last: true, ..part(5 * MIB) };
    dialect.take_part(&last).unwrap();
    dialect.fail_next_empty_put();
    dialect.take_part(&Part { is_empty: false, ..last }).unwrap();
    dialect.take_part(&last).unwrap_err();
    dialect.take_part(&last).unwrap();
}

#[tokio::test]
async fn a_manifest_with_a_subject_is_refused_on_demand() {
    let dialect = dialect();
    let (plain, referring) = (br#"{"layers":[]}"#, br#"{"subject":{}}"#);
    dialect.take_manifest(referring).unwrap();
    dialect.set_refuses_subjects(true);
    dialect.take_manifest(plain).unwrap();
    let (status, error) = error_of(dialect.take_manifest(referring).unwrap_err()).await;
    assert_eq!((status, &error["code"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("UNSUPPORTED")));
}

#[test]
fn blobs_are_mounted_only_where_the_account_says_so() {
    let dialect = dialect();
    assert!(!dialect.mounts());
    dialect.set_mounts(true);
    assert!(dialect.mounts());
}

#[test]
fn images_can_be_deleted_and_nothing_else() {
    let dialect = dialect();
    let deletes = |resource: Resource| dialect.operation(&resource, &Method::DELETE);
    assert_eq!(deletes(Resource::Manifest("v1".to_owned())), Some(Operation::DeleteManifest));
    assert_eq!(deletes(Resource::Blob("sha256:0".to_owned())), None);
    assert_eq!(deletes(Resource::Upload("0".to_owned())), None);
    assert_eq!(dialect.operation(&Resource::Tags, &Method::GET), Some(Operation::ListTags));
}

#[tokio::test]
async fn an_upload_does_not_tell_how_far_it_is() {
    let (status, error) = error_of(dialect().told_when_asked(5).unwrap_err()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(error["code"], "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn errors_have_ecrs_words() {
    let (not_found, bad) = (StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST);
    for (status, code, end, expected) in [
        (
            not_found,
            Code::NameUnknown,
            "blobs/uploads/",
            json!({ "code": "NAME_UNKNOWN", "message": format!(
                "The repository with name '{REPOSITORY}' does not exist in the registry with id \
                 '095412845506'"
            ) }),
        ),
        (
            not_found,
            Code::ManifestUnknown,
            "manifests/v1",
            json!({ "code": "MANIFEST_UNKNOWN", "message": "Requested image not found" }),
        ),
        (
            bad,
            Code::TagImmutable,
            "manifests/v1",
            json!({ "code": "TAG_INVALID", "message": format!(
                "The image tag 'v1' already exists in the '{REPOSITORY}' repository and cannot be \
                 overwritten because the repository is immutable."
            ) }),
        ),
        (
            bad,
            Code::TagInvalid,
            "manifests/-",
            json!({ "code": "TAG_INVALID", "message": "as the local registry" }),
        ),
    ] {
        assert_eq!(refused(status, code, end).await, (status, expected));
    }
}

#[tokio::test]
async fn an_expired_password_is_denied_and_a_wrong_one_not_authorized() {
    let (status, error) = refused(StatusCode::UNAUTHORIZED, Code::Expired, "tags/list").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(error["code"], "DENIED");
    let expired = "Your authorization token has expired. Reauthenticate and try again.";
    assert_eq!(error["message"], expired);

    let wrong = ApiError::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "log in");
    let response = dialect().refuse(wrong, &Target::Base);
    let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    let (status, content_type, text) = sent(response).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (content_type.as_str(), text.as_str()),
        ("text/plain; charset=utf-8", "Not Authorized\n")
    );
}
