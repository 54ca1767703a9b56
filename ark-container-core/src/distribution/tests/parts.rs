//! Blobs in parts.

use super::*;

#[tokio::test]
async fn parts_say_where_they_are_and_follow_the_upload() {
    let registry = Scripted::new([
        answer("202 Accepted", &["Location: /u/0"], ""),
        answer("202 Accepted", &["Location: /u/1?_state=x", "Range: 0-2"], ""),
        // As AWS ECR answers: with another status, and a range that sticks at the first part.
        answer("201 Created", &["Range: 0-2"], ""),
        answer("201 Created", &[], ""),
    ]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    let upload = client.append_part(&upload, 0..3, pieces(&[b"con"])).await.unwrap();
    let upload = client.append_part(&upload, 3..5, pieces(&[b"t", b"e"])).await.unwrap();
    client.finish_with_part(&upload, &digest(), 5..7, pieces(&[b"nt"])).await.unwrap();
    let requests = registry.requests();
    let query = digest().to_string().replace(':', "%3A");
    for (request, line, range, body) in [
        (&requests[1], "PATCH /u/0 HTTP/1.1", "0-2", &b"con"[..]),
        (&requests[2], "PATCH /u/1?_state=x HTTP/1.1", "3-4", b"te"),
        (&requests[3], &format!("PUT /u/1?_state=x&digest={query} HTTP/1.1"), "5-6", b"nt"),
    ] {
        assert_eq!(request.line, line);
        assert_eq!(request.header("content-range"), Some(range));
        assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(request.body, body);
    }
}

#[tokio::test]
async fn a_part_that_is_out_of_place_is_told_by_its_status() {
    let message = "First byte of the layer part is 0 instead of 5";
    let out_of_place = refusal("416 Range Not Satisfiable", "BLOB_UPLOAD_INVALID", message);
    let registry = Scripted::new([answer("202 Accepted", &["Location: /u"], ""), out_of_place]);
    let client = registry.patient_client();
    let upload = client.start_upload().await.unwrap();
    let error = client.append_part(&upload, 0..3, pieces(&[b"con"])).await.unwrap_err();
    let refusal = DistributionError::of(&error).unwrap();
    assert_eq!((refusal.status(), refusal.expected_offset()), (416, Some(5)));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn an_upload_tells_how_far_it_is_and_where_it_goes_on() {
    let registry = Scripted::new([
        answer("202 Accepted", &["Location: /u/0"], ""),
        answer("204 No Content", &["Location: /u/1", "Range: 0-4"], ""),
        answer("404 Not Found", &[], ""),
    ]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    let (upload, there) = client.upload_status(&upload).await.unwrap();
    assert_eq!((upload.location().path(), there), ("/u/1", 5));
    let error = client.upload_status(&upload).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Upload, .. }), "{error:?}");
}
