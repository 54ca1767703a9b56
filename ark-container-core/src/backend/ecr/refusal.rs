//! [`AwsRefusal`]: what AWS said when it refused a call.

/// What AWS said when it refused a call: the source of errors that are due to it, printed with AWS's
/// code, its message and the id of the request.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct AwsRefusal {
    code: Box<str>,
    said: String,
}

impl AwsRefusal {
    pub(super) fn new(code: &str, said: String) -> Self {
        Self { code: code.into(), said }
    }

    /// AWS's name for the reason, such as `LimitExceededException`.
    pub fn code(&self) -> &str {
        &self.code
    }
}
