//! [`Lifetime`]: from when until when a token is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::refusal::Refusal;

/// How far the clocks of this machine and the issuer may be apart.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// The first second of the year 10000, which RFC 3339 cannot write.
const END_OF_TIME: f64 = 253_402_300_800.0;

/// From when until when a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    not_before: Option<SystemTime>,
    expires_at: SystemTime,
}

impl Lifetime {
    /// The lifetime by the claims `nbf` and `exp`; a token without end is none.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>
    pub(super) fn new(
        not_before: Option<&Value>,
        expires_at: Option<&Value>,
    ) -> Result<Self, Refusal> {
        let expires_at = expires_at.ok_or_else(|| Refusal::token("has no claim \"exp\""))?;
        Ok(Self {
            not_before: not_before.map(|value| time(value, "nbf")).transpose()?,
            expires_at: time(expires_at, "exp")?,
        })
    }

    pub(super) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Refuses a token that is not good at `now`, give or take the leeway.
    pub(super) fn check(&self, now: SystemTime) -> Result<(), Refusal> {
        let shown = humantime::format_rfc3339_seconds;
        let later = |a: SystemTime, b: SystemTime| a.duration_since(b).is_ok_and(|by| by > LEEWAY);
        if later(now, self.expires_at) {
            return Err(Refusal::token(format!("expired at {}", shown(self.expires_at))));
        }
        match self.not_before {
            Some(start) if later(start, now) => {
                Err(Refusal::token(format!("is not good before {}", shown(start))))
            }
            _ => Ok(()),
        }
    }
}

/// Seconds since 1970, perhaps with a fraction.
fn time(value: &Value, claim: &str) -> Result<SystemTime, Refusal> {
    let seconds = value.as_f64().filter(|seconds| *seconds < END_OF_TIME);
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    since
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| Refusal::token(format!("has a claim \"{claim}\" that is no time")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn problem(outcome: Result<impl std::fmt::Debug, Refusal>) -> String {
        outcome.unwrap_err().into_error("the token").to_string()
    }

    #[test]
    fn clocks_may_be_half_a_minute_apart() {
        let lifetime = Lifetime::new(Some(&json!(1000)), Some(&json!(2000.5))).unwrap();
        for good in [970, 1000, 2000, 2030] {
            assert!(lifetime.check(at(good)).is_ok(), "{good}");
        }
        assert_eq!(
            problem(lifetime.check(at(969))),
            "not authenticated: the token is not good before 1970-01-01T00:16:40Z"
        );
        assert_eq!(
            problem(lifetime.check(at(2031))),
            "not authenticated: the token expired at 1970-01-01T00:33:20Z"
        );
    }

    #[test]
    fn a_token_must_end() {
        assert_eq!(
            problem(Lifetime::new(None, None)),
            "not authenticated: the token has no claim \"exp\""
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [json!("2000"), json!(null), json!(-1), json!(1e300), json!([1]), json!(3e11)] {
            let exp = problem(Lifetime::new(None, Some(&bad)));
            assert!(exp.ends_with("the token has a claim \"exp\" that is no time"), "{exp}");
            let nbf = problem(Lifetime::new(Some(&bad), Some(&json!(1))));
            assert!(nbf.ends_with("the token has a claim \"nbf\" that is no time"), "{nbf}");
        }
    }
}
