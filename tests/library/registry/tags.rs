//! The listing of tags.

use reqwest::StatusCode;
use serde_json::json;

use super::server::{OURS, Server, path};

#[tokio::test]
async fn tags_come_in_pages_that_link_to_the_next() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let url = format!("/v2/{app}/tags/list");
    let empty = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(empty.json(), json!({ "name": app.to_string(), "tags": [] }));
    for tag in ["b", "a", "B", "1.0", "_x"] {
        client.push_image(&app, tag, b"layer").await;
    }
    let all = ["1.0", "B", "_x", "a", "b"];
    let answer = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(answer.json()["tags"], json!(all));
    assert!(answer.headers.get("link").is_none());

    let (mut seen, mut next) = (Vec::new(), Some(format!("{url}?n=2")));
    while let Some(url) = next {
        let page = client.get(&url).await.expect(StatusCode::OK);
        let tags = page.json()["tags"].as_array().unwrap().clone();
        assert!(tags.len() <= 2);
        seen.extend(tags);
        next = page.headers.get("link").map(|link| {
            let link = link.to_str().unwrap();
            let target = link.strip_prefix('<').unwrap();
            target.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
    }
    assert_eq!(seen, all);

    let none = client.get(&format!("{url}?n=0")).await.expect(StatusCode::OK);
    assert_eq!(none.json()["tags"], json!([]));
    assert!(none.headers.get("link").is_none());
    let rest = client.get(&format!("{url}?last=C")).await.expect(StatusCode::OK);
    assert_eq!(rest.json()["tags"], json!(["_x", "a", "b"]));
    let wrong = client.get(&format!("{url}?n=-1")).await;
    wrong.expect_error(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID");
    assert!(client.head(&url).await.expect(StatusCode::OK).body.is_empty());
}
