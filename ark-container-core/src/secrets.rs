//! [`Secrets`]: redacts the secrets of this process in texts of servers and of other programs.
//!
//! Servers and programs repeat their input: a registry in the body of an error, AWS in the message about a
//! signature, docker in its output. [`Secrets::strike_out`] redacts such a text before an error or a log shows it.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

#[cfg(feature = "push")]
use crate::escape::escape_untrusted;

/// The text that replaces a secret.
const REDACTED: &str = "***";
/// The minimum length of a redacted secret, in bytes. A shorter one could be part of ordinary words.
const MIN_SECRET_LEN: usize = 4;
/// The maximum number of characters of a [printable](Secrets::printable) text.
#[cfg(feature = "push")]
const MAX_PRINTABLE_CHARS: usize = 400;

/// The environment variables with secrets of AWS.
const SECRET_VARIABLES: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// The environment variables with proxy URLs, which may contain a password.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The secrets that this program sends, longest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Arc<[SecretString]>);

impl Secrets {
    /// Returns the secrets in the environment of the process: AWS keys and proxy passwords.
    pub(crate) fn of_environment() -> Self {
        let value = |name: &&str| std::env::var(name).ok();
        let keys = SECRET_VARIABLES.iter().filter_map(value);
        let secrets = keys.fold(Self::default(), |secrets, key| secrets.with(&key));
        let proxies = PROXY_VARIABLES.iter().filter_map(value);
        proxies.filter_map(|proxy| Url::parse(&proxy).ok()).fold(secrets, |secrets, proxy| {
            match proxy.password() {
                Some(password) => secrets.with_login(proxy.username(), password),
                None => secrets,
            }
        })
    }

    /// Adds a secret: as it is, in base64, and percent-encoded for a path and for a query.
    pub(crate) fn with(&self, secret: &str) -> Self {
        if secret.len() < MIN_SECRET_LEN {
            return self.clone();
        }
        let mut forms = vec![secret.to_owned(), STANDARD.encode(secret)];
        if let Ok(mut url) = Url::parse("http://h/") {
            url.set_path(secret);
            forms.push(url.path()[1..].to_owned());
            url.query_pairs_mut().append_key_only(secret);
            forms.extend(url.query().map(str::to_owned));
        }
        let mut all: Vec<SecretString> = self.0.to_vec();
        all.extend(forms.into_iter().map(SecretString::from));
        // Longest first: a secret may contain another one.
        all.sort_by(|one, other| {
            let (one, other) = (one.expose_secret(), other.expose_secret());
            other.len().cmp(&one.len()).then_with(|| one.cmp(other))
        });
        all.dedup_by(|one, other| one.expose_secret() == other.expose_secret());
        Self(all.into())
    }

    /// Adds a password, alone and with its user name as HTTP Basic authentication sends them.
    pub(crate) fn with_login(&self, username: &str, password: &str) -> Self {
        self.with(password).with(&format!("{username}:{password}"))
    }

    /// Redacts these secrets, the user info of URLs, and every word that looks like a token.
    pub(crate) fn strike_out<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in self.0.iter().map(SecretString::expose_secret) {
            if text.contains(secret) {
                text = Cow::Owned(text.replace(secret, REDACTED));
            }
        }
        if text.contains("://") {
            text = Cow::Owned(without_user_info(&text));
        }
        if let Some(token) = security_token(&text) {
            text = Cow::Owned(text.replace(&token, REDACTED));
        }
        let tokens = text.split(|c: char| !is_part_of_token(c)).filter(|word| is_token(word));
        let tokens: Vec<String> = tokens.map(str::to_owned).collect();
        tokens.iter().fold(text, |text, token| Cow::Owned(text.replace(token, REDACTED)))
    }
}

/// Texts and URLs in the errors and logs of a registry client.
#[cfg(feature = "push")]
impl Secrets {
    /// Returns a text from outside as one redacted, escaped and shortened line.
    pub(crate) fn printable(&self, text: &str) -> String {
        let text = self.strike_out(text);
        let mut shown = String::new();
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        for word in words.filter(|word| !word.is_empty()) {
            if !shown.is_empty() {
                shown.push(' ');
            }
            shown.push_str(word);
            if let Some((cut, _)) = shown.char_indices().nth(MAX_PRINTABLE_CHARS) {
                shown.truncate(cut);
                shown.push('…');
                break;
            }
        }
        escape_untrusted(&shown).into_owned()
    }

    /// Returns a URL from outside without secrets.
    pub(crate) fn redacted(&self, url: &Url) -> String {
        self.strike_out(&redacted(url)).into_owned()
    }
}

/// Returns a URL without user info, query and fragment. The query contains the state of upload sessions and
/// the keys of storage.
#[cfg(feature = "push")]
pub(crate) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for a URL without a host, which has no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn without_user_info(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '\'' | '"' | '<');
        let authority = &part[..part.find(is_end).unwrap_or(part.len())];
        shown.push_str("://");
        match authority.rfind('@') {
            Some(at) => {
                shown.push_str(REDACTED);
                shown.push_str(&part[at..]);
            }
            None => shown.push_str(part),
        }
    }
    shown
}

/// Returns the AWS session token in a text that repeats the headers of a request.
fn security_token(text: &str) -> Option<String> {
    const HEADER: &str = "x-amz-security-token";
    let start = text.to_ascii_lowercase().find(HEADER)? + HEADER.len();
    let token = text[start..].trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let end = token.find(|c: char| !is_part_of_token(c)).unwrap_or(token.len());
    (end >= MIN_SECRET_LEN).then(|| token[..end].to_owned())
}

fn is_part_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "+/=._~%-".contains(character)
}

/// Returns whether a word is a JSON Web Token, or looks like a registry password or an AWS session token: long, with
/// upper case, lower case and digits. Digests and repository names have no upper case. Segments of paths are shorter.
fn is_token(word: &str) -> bool {
    const JSON_WEB_TOKEN: &str = "eyJ";
    const MIN_LEN: usize = 100;
    const MIN_PART_LEN: usize = 40;
    let has = |part: &str, is_meant: fn(&u8) -> bool| part.as_bytes().iter().any(is_meant);
    let is_irregular = |part: &str| {
        part.len() >= MIN_PART_LEN
            && has(part, u8::is_ascii_uppercase)
            && has(part, u8::is_ascii_lowercase)
            && has(part, u8::is_ascii_digit)
    };
    let is_web_token = |part: &str| part.starts_with(JSON_WEB_TOKEN) && part.contains('.');
    word.split('=').any(is_web_token) || word.len() >= MIN_LEN && word.split('/').any(is_irregular)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        Secrets::default().strike_out(text).into_owned()
    }

    #[test]
    fn user_info_of_urls_is_redacted() {
        for (text, expected) in [
            ("GET https://alice:hunter2@h.example/a?b@c", "GET https://***@h.example/a?b@c"),
            ("'http://p@ss@h' and ftp://x@y z", "'http://***@h' and ftp://***@y z"),
            (
                "https://h.example/@scope/a alice@h.example",
                "https://h.example/@scope/a alice@h.example",
            ),
            ("a://", "a://"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn tokens_are_redacted_and_names_are_kept() {
        let session = "IQoJb3JpZ2luX2VjEHYaCXVzLWVhc3QtMSJHMEUCIQDrf8".repeat(4);
        let text = format!("x-amz-security-token:{session}\nhost:h");
        assert_eq!(redact(&text), "x-amz-security-token:***\nhost:h");
        let headers = "{'X-Amz-Security-Token': 'SHORT0123', 'host': 'h'}";
        assert_eq!(redact(headers), "{'X-Amz-Security-Token': '***', 'host': 'h'}");
        assert_eq!(redact("token=\"eyJhbGciOiJub25lIn0.e30.c2ln\""), "token=\"***\"");
        assert_eq!(redact("?token=eyJhbGciOiJub25lIn0.e30.c2ln&a"), "?***&a");
        let name = "catalog/extract-video/".repeat(12) + "a";
        let hex = "0123456789abcdef".repeat(8);
        let folder = "/Users/Alice/Library/Caches/9A/".repeat(8);
        for name in [&name, &format!("sha512:{hex}"), &folder, "eyJ"] {
            assert_eq!(redact(name), *name);
        }
    }

    #[cfg(feature = "push")]
    #[test]
    fn printable_text_is_one_escaped_line() {
        let text = "a\nhint: run\u{202e}x\u{200b}\u{2028}b";
        assert_eq!(Secrets::default().printable(text), r"a hint: run\u{202e}x\u{200b} b");
    }
}
