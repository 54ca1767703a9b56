# Creates the roles on standard input: a list of name, trust policy and permissions each.
import botocore.session
import json
import sys

iam = botocore.session.get_session().create_client("iam", region_name="us-east-1")
for name, trust, permissions in json.load(sys.stdin):
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, MaxSessionDuration=43200)
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=permissions)
