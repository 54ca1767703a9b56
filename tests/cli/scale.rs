//! How large the tests are that grow.

use std::env;

/// `ARK_TEST_SCALE=full` asks for the sizes that the product promises, which take minutes.
pub(crate) fn is_full() -> bool {
    env::var_os("ARK_TEST_SCALE").is_some_and(|scale| scale == "full")
}
