//! [`Clock`]: the time at AWS, which may differ from ours.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// This machine's clock, or one that goes before or behind it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_seconds: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.ahead_seconds.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        let moved =
            if ahead < 0 { now.checked_sub(difference) } else { now.checked_add(difference) };
        moved.unwrap_or(UNIX_EPOCH)
    }

    pub(super) fn set_ahead(&self, seconds: i64) {
        self.ahead_seconds.store(seconds, Ordering::Relaxed);
    }
}

/// A time as the JSON protocol has it: seconds since 1970, with milliseconds.
///
/// Source: <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#timestamp-formats> (`epoch-seconds`)
pub(super) fn epoch_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}

/// A time as HTTP has it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>
pub(super) fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // 1 January 1970 was a Thursday.
    let day = DAYS[(seconds / (24 * 60 * 60) % 7) as usize];
    let rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
    let (date, clock) = rfc3339.trim_end_matches('Z').split_once('T').unwrap_or_default();
    let mut parts = date.split('-');
    let [year, month, day_of_month] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let month = month.parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    format!("{day}, {day_of_month} {} {year} {clock} GMT", month.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
