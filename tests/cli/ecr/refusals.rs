//! What a user is told of refusals that are due to neither the caller nor the request.

use ark_container_fakes::aws::Fault;
use insta::assert_snapshot;

use super::Cloud;
use crate::sandbox::TBD;

/// What is told when AWS refuses a creation with this code.
fn refused(code: &str, message: &str, options: &str) -> String {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::error(code, message).on("ecr:CreateRepository"));
    let line = format!("--create-repository a --organization {TBD} {options}");
    let told = cloud.told(&cloud.run(&line));
    assert_eq!(cloud.aws.count("ecr:CreateRepository"), 1, "to ask again would change nothing");
    told
}

#[test]
fn a_quota_that_is_reached() {
    let message = "The repository limit of the account is reached";
    assert_snapshot!(refused("LimitExceededException", message, ""), @"
    exit 1
    error: cannot create the repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: a quota of the account is reached: LimitExceededException: The repository limit of the account is reached (AWS request REQUEST)
      help: delete what is no longer used, or have the quota raised; the quotas: aws service-quotas list-service-quotas --service-code ecr
    ");
}

#[test]
fn a_key_that_kms_does_not_let_ecr_use() {
    let message = "The key is disabled";
    let told = refused("KmsException", message, "--encryption kms:alias/images");
    assert_snapshot!(told, @"
    exit 1
    error: cannot create the repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS KMS cannot use the key: KmsException: The key is disabled (AWS request REQUEST)
      help: the key must be enabled, of the registry's region, and one that you may use: aws kms describe-key --key-id KEY
    ");
}
