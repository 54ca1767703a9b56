//! What a password does not open, which the registry itself refuses.

use std::time::Duration;

use insta::assert_snapshot;

use super::{Cloud, printed};
use crate::sandbox::{OTHER, Run, TBD};
use crate::tools::Tools;

/// AWS with the repository `a` of two organizations, the other's with an image.
fn two_organizations() -> Cloud {
    let cloud = Cloud::new();
    cloud.sandbox.write_image("sample", "hello");
    for organization in [TBD, OTHER] {
        cloud.printed(&format!("--create-repository a --organization {organization}"));
    }
    cloud.printed(&format!("--push a:v1 --from oci:sample --organization {OTHER}"));
    cloud
}

/// Tools that are logged in with a password for pushing to `a` of [`TBD`].
fn logged_in(cloud: &Cloud) -> Tools<'_> {
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.narrowed_command(&format!("--login a --organization {TBD}"));
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    tools
}

#[test]
fn a_password_opens_no_repository_of_another_organization() {
    let cloud = two_organizations();
    let tools = logged_in(&cloud);
    let foreign = cloud.image_of(OTHER, "a:v1");
    let pull = tools.run(&format!("podman pull -q {foreign}"));
    assert_ne!(pull.code, 0);
    assert!(pull.stderr.contains("denied"), "{pull:?}");
    let push = tools.run(&format!("skopeo copy -q oci:sample docker://{foreign}"));
    assert_ne!(push.code, 0);
    assert!(push.stderr.contains("403 (Forbidden)"), "{push:?}");
    // The same password does what it is for.
    tools.printed(&format!("skopeo copy -q oci:sample docker://{}", cloud.image("a:v1")));
}

#[test]
fn a_foreign_repository_is_denied_alike_whether_or_not_it_exists() {
    let cloud = two_organizations();
    let tools = logged_in(&cloud);
    let told = |name: &str| {
        let Run { code, stderr, .. } =
            tools.run(&format!("skopeo inspect --raw docker://{}:v1", cloud.image_of(OTHER, name)));
        assert_ne!(code, 0, "{name}");
        let message = stderr.split("msg=").nth(1).unwrap();
        message.replace(&format!("{OTHER}/{name}"), "REPOSITORY")
    };
    assert_eq!(told("a"), told("missing"));
}

#[test]
fn a_password_for_pulling_does_not_push() {
    let cloud = two_organizations();
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = format!("--login a --access pull --organization {OTHER}");
    let login = cloud.narrowed_command(&login);
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    let image = cloud.image_of(OTHER, "a");
    tools.printed(&format!("skopeo copy -q docker://{image}:v1 dir:pulled"));
    cloud.sandbox.write_image("new", "another");
    let push = tools.run(&format!("skopeo copy -q oci:new docker://{image}:v2"));
    assert_ne!(push.code, 0);
    assert!(push.stderr.contains("denied"), "{push:?}");
}

#[test]
fn a_password_that_nothing_narrows_comes_with_a_warning() {
    let cloud = two_organizations();
    let run = cloud.run(&format!("--login a --organization {TBD}"));
    assert_eq!(run.code, 0, "{run:?}");
    let warning = run.stderr.replace(&cloud.host(), "HOST");
    assert_snapshot!(warning, @"warning: the password opens every repository of HOST that your AWS identity can reach, not only prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN");
    // It tells the truth.
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.command(&format!("--login a --organization {TBD}"));
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    tools.printed(&format!("skopeo inspect --raw docker://{}", cloud.image_of(OTHER, "a:v1")));
}

#[test]
fn a_password_that_nothing_narrows_is_refused_where_it_must_be_narrow() {
    let cloud = two_organizations();
    let mut login = cloud.command(&format!("--login a --organization {TBD}"));
    let run = cloud.sandbox.finish(login.env("ARK_REQUIRE_SCOPED", "true"));
    assert_snapshot!(cloud.told(&run), @r"
    exit 2
    error: credentials that reach repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:pull,push only need an IAM role to be narrowed under; set role_arn for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod, or allow wider ones with require_scoped = false
    ");
    assert_eq!(cloud.aws.count("ecr:GetAuthorizationToken"), 1, "the push's alone");
    let mut login = cloud.narrowed_command(&format!("--login a --organization {TBD}"));
    printed(&cloud.sandbox, login.env("ARK_REQUIRE_SCOPED", "true"));
}

#[test]
fn a_password_that_has_expired_opens_nothing() {
    let cloud = two_organizations();
    cloud.aws.set_token_lifetime(Duration::ZERO);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.narrowed_command(&format!("--login a --organization {TBD}"));
    let run = tools.log_in("skopeo", &cloud.host(), login);
    assert!(run.stderr.contains("403 (Forbidden)"), "{run:?}");
}
