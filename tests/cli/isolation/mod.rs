//! Two organizations with users of their own: neither reaches the other's, or learns what it has.

mod command_line;
mod registry;
pub(crate) mod tokens;

use ark_container_core::testing::SampleImage;

use crate::sandbox::{OTHER, Sandbox, TBD};

/// A repository of each organization, with an image under the tag `v1`.
const THERE: &str = "there";
/// A repository that neither has, with a name of the same length.
const NOWHERE: &str = "ghost";

/// What `answer` says about a foreign repository that exists, which is what it says about one that
/// does not.
#[track_caller]
fn alike(what: &str, answer: impl Fn(&str) -> String) -> String {
    let there = answer(THERE);
    assert_eq!(there, answer(NOWHERE).replace(NOWHERE, THERE), "{what}");
    there
}

/// A home where alice of [`TBD`] and bob of [`OTHER`] have each pushed an image of their own.
fn two_organizations() -> Sandbox {
    let sandbox = Sandbox::with_memberships();
    for (principal, organization) in [("user:alice", TBD), ("user:bob", OTHER)] {
        let image = image_of(organization);
        image.write_oci_layout(&sandbox.path(organization), None).unwrap();
        for line in [
            format!("--create-repository {THERE} --organization {organization}"),
            format!("--push {THERE}:v1 --from oci:{organization} --organization {organization}"),
        ] {
            let run = sandbox.run_as(principal, &line);
            assert_eq!(run.code, 0, "{line}: {run:?}");
        }
    }
    sandbox
}

/// What the organization's user has pushed.
fn image_of(organization: &str) -> SampleImage {
    SampleImage::new(organization)
}
