//! Tests with the vectors of AWS's test suite.
//!
//! Source: <https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4>

use hyper::Request;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
const TIME: &str = "20150830T123600Z";

/// Builds a request with `headers` and the headers that all vectors have.
fn request(method: &str, target: &str, headers: &[(&str, &str)], signature: &str) -> Parts {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.extend(["host", "x-amz-date"]);
    names.sort_unstable();
    names.dedup();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders={}, Signature={signature}",
        names.join(";")
    );
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .header("host", "example.amazonaws.com")
        .header("x-amz-date", TIME)
        .header("authorization", authorization);
    request.body(()).unwrap().into_parts().0
}

fn check(parts: &Parts, secret: &str, body: &[u8]) -> Result<(), SignatureError> {
    Signature::of(&parts.headers)?.check(secret, parts, body)
}

/// Returns the error of the scope at a time.
fn scope_problem(parts: &Parts, now: &str, service: &str, region: &str) -> Option<String> {
    let signature = Signature::of(&parts.headers).unwrap();
    match signature.check_scope(parse_time(now).unwrap(), service, &[region]) {
        Ok(()) => None,
        Err(SignatureError::Wrong(problem)) => Some(problem),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn vectors_of_aws_are_accepted() {
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "13"),
        (
            "x-amz-content-sha256",
            "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        ),
    ];
    let repeated = [("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")];
    for (method, target, headers, body, signature) in [
        ("GET", "/", &[][..], "", VANILLA),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "GET",
            "/",
            &repeated,
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "/",
            &[("x-amz-security-token", token)],
            "",
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        ),
        (
            "POST",
            "/",
            &form,
            "Param1=value1",
            "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
        ),
    ] {
        let parts = request(method, target, headers, signature);
        assert_eq!(check(&parts, SECRET, body.as_bytes()), Ok(()), "{target} {headers:?}");
    }
}

#[test]
fn changed_request_is_rejected() {
    let vanilla = |method, target| request(method, target, &[], VANILLA);
    let differs = |parts: &Parts, secret, body: &str| {
        matches!(check(parts, secret, body.as_bytes()), Err(SignatureError::Wrong(_)))
    };
    assert!(!differs(&vanilla("GET", "/"), SECRET, ""));
    assert!(differs(&vanilla("GET", "/"), "another secret", ""));
    assert!(differs(&vanilla("GET", "/"), SECRET, "body"));
    assert!(differs(&vanilla("POST", "/"), SECRET, ""));
    assert!(differs(&vanilla("GET", "/a"), SECRET, ""));
    assert!(differs(&vanilla("GET", "/?a=b"), SECRET, ""));
    let mut parts = vanilla("GET", "/");
    parts.headers.insert("host", "example.org".parse().unwrap());
    assert!(differs(&parts, SECRET, ""));
}

#[test]
fn relevant_header_must_be_signed() {
    let mut parts = request("GET", "/", &[], VANILLA);
    parts.headers.insert("x-amz-target", "A.B".parse().unwrap());
    let Err(SignatureError::Wrong(problem)) = check(&parts, SECRET, b"") else { panic!() };
    assert!(problem.starts_with("'x-amz-target' must be"), "{problem}");
}

#[test]
fn signature_is_valid_for_15_minutes() {
    let parts = request("GET", "/", &[], VANILLA);
    let problem = |now| scope_problem(&parts, now, "service", "us-east-1");
    for now in ["20150830T122100Z", TIME, "20150830T125100Z"] {
        assert_eq!(problem(now), None);
    }
    assert_eq!(
        problem("20150830T125101Z").unwrap(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
         (20150830T125101Z - 15 min.)"
    );
    assert_eq!(
        problem("20150830T122059Z").unwrap(),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
         (20150830T122059Z + 15 min.)"
    );
}

#[test]
fn signature_is_for_one_service_and_region() {
    let parts = request("GET", "/", &[], VANILLA);
    let problem = |service, region| scope_problem(&parts, TIME, service, region).unwrap();
    assert!(problem("ecr", "us-east-1").ends_with("correct service: 'ecr'."));
    assert!(problem("service", "eu-west-1").ends_with("a valid region."));
}

#[test]
fn missing_signature_is_reported() {
    let of = |value: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-date", TIME.parse().unwrap());
        if let Some(value) = value {
            headers.insert("authorization", value.parse().unwrap());
        }
        Signature::of(&headers).unwrap_err()
    };
    assert_eq!(of(None), SignatureError::Missing);
    for incomplete in [
        "Basic QTpC",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=xy",
    ] {
        assert!(matches!(of(Some(incomplete)), SignatureError::Incomplete(_)), "{incomplete}");
    }
}
