//! Headers and targets of requests and responses.

use std::time::{Duration, SystemTime};

use ark_container_core::fuzzing::{client, registry};
use ark_container_core::model::RepositoryPath;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry::Route;

/// Checks the parsers of the registry: `Range`, `Content-Range`, `Authorization`, and the path of a URL.
pub fn server_headers(data: &[u8]) {
    if let Some(password) = registry::password(data) {
        let header = std::str::from_utf8(data).expect("it is text");
        let (_, encoded) = header.split_once(' ').expect("a scheme and credentials");
        assert_eq!(STANDARD.encode(format!("AWS:{password}")), encoded.trim());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for size in [0, 1, 10, u64::MAX] {
        if let Some((first, last)) = registry::range(text, size) {
            assert!(first <= last && last < size);
            let asked = text.strip_prefix("bytes=").expect("a unit");
            let (from, to) = asked.split_once('-').expect("a range");
            assert!(from.is_empty() || from.parse() == Ok(first));
            assert!(
                from.is_empty() || to.is_empty() || to.parse::<u64>().is_ok_and(|to| to >= last)
            );
        }
    }
    if let Some((start, length)) = registry::chunk(text) {
        let last = start.checked_add(length - 1).expect("the last offset fits");
        let (from, to) = text.split_once('-').expect("a range");
        let digits = |text: &str| format!("0{}", text.trim_start_matches('0'));
        let written = |number: u64| digits(&number.to_string());
        assert_eq!((digits(from), digits(to)), (written(start), written(last)));
    }
    if let Route::In(path, _) = registry::route(text) {
        // Each component of the name is one of the URL: encoded characters move no boundary.
        let parts: Vec<&str> = text.split('/').skip(2).collect();
        let name = path.to_string();
        let names: Vec<&str> = name.split('/').collect();
        assert!(parts.len() > names.len());
        for (part, name) in parts.iter().zip(&names) {
            assert_eq!(&decoded(part), name.as_bytes());
        }
        assert_eq!(name.parse::<RepositoryPath>(), Ok(path));
    }
}

/// Checks the parsers of the client: `Link`, `WWW-Authenticate`, `Retry-After`, `Content-Range`, `Range`, error
/// responses.
pub fn client_headers(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if let Some((realm, service, scope)) = client::challenge(&lines) {
        let quoted = |name: &str, value: &str| {
            format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        };
        let parameters =
            [("realm", Some(&realm)), ("service", service.as_ref()), ("scope", scope.as_ref())];
        let written = parameters.into_iter().filter_map(|(name, value)| Some(quoted(name, value?)));
        let header = format!("Bearer {}", written.collect::<Vec<_>>().join(","));
        let again = client::challenge(&[header.as_bytes()]);
        assert_eq!(again, Some((realm.clone(), service.clone(), scope.clone())), "{header}");
        let url = |base| client::login_url(base, realm.clone(), service.clone(), scope.clone());
        assert!(url("https://registry.example/v2/").is_none_or(|url| url.starts_with("https://")));
        let at_home = |url: &str| {
            url.split('/').nth(2).is_some_and(|host| {
                let host = host.rsplit('@').next().unwrap_or(host);
                host == "127.0.0.1" || host.starts_with("127.0.0.1:")
            })
        };
        let home = url("http://127.0.0.1:5000/v2/");
        assert!(home.is_none_or(|url| url.starts_with("https://") || at_home(&url)));
    }
    if let Some(asked) = client::retry_after(data, SystemTime::UNIX_EPOCH) {
        let text = std::str::from_utf8(data).expect("it is text").trim();
        match text.strip_prefix('+').unwrap_or(text).parse() {
            Ok(seconds) => assert_eq!(asked, Duration::from_secs(seconds)),
            // A date, in the year 9999 at the latest.
            Err(_) => assert!(asked.as_secs() < 253_402_300_800),
        }
    }
    for status in [400, 429, 503] {
        let (refusal, offset) = client::refusal(status, data).expect("a status");
        let shown = refusal.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.len() < 1000 + 4 * data.len());
        assert!(offset.is_none_or(
            |_| data.windows(11).any(|part| part == b"instead of ") || data.contains(&b'\\')
        ));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(target) = client::next_page(text) {
        assert!(text.contains(&format!("<{target}>")) && !target.contains('>'));
        assert!(text.to_ascii_lowercase().contains("next"));
    }
    if let Some(start) = client::part_start(text) {
        assert!(text.starts_with("bytes ") && text.contains(&start.to_string()));
    }
    if let Some(length) = client::received(text) {
        assert!(length == 0 || text.contains(&(length - 1).to_string()));
    }
}

fn decoded(part: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}
