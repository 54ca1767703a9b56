# The roles of a registry whose users have tokens of an identity provider, and no accounts in AWS.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_partition" "current" {}

locals {
  host = regex("^(?P<account>[0-9]{12})\\.dkr[.-]ecr(?:-fips)?\\.(?P<region>[a-z0-9-]+)\\.", var.registry_host)

  policy = {
    partition         = data.aws_partition.current.partition
    account           = local.host.account
    region            = local.host.region
    stage             = var.stage
    provider          = var.identity_provider
    audience          = var.audience
    repository_policy = var.repository_policy
  }
}

# Where the account knows the provider already, for this audience or another, it is added there.
resource "aws_iam_openid_connect_provider" "tokens" {
  count = var.create_identity_provider ? 1 : 0

  url            = "https://${var.identity_provider}"
  client_id_list = [var.audience]
}

resource "aws_iam_role" "access" {
  name                 = "${var.name}-access"
  description          = "Members of organizations read; users also create repositories and push"
  assume_role_policy   = templatefile("${path.module}/policies/access-role-trust.json.tftpl", local.policy)
  max_session_duration = var.max_session_duration
  depends_on           = [aws_iam_openid_connect_provider.tokens]
}

resource "aws_iam_role_policy" "access" {
  name   = "organizations"
  role   = aws_iam_role.access.id
  policy = templatefile("${path.module}/policies/access-role-permissions.json.tftpl", local.policy)
}

resource "aws_iam_role" "administrator" {
  name                 = "${var.name}-administrator"
  description          = "Administrators of organizations delete, and change the global organization"
  assume_role_policy   = templatefile("${path.module}/policies/administrator-role-trust.json.tftpl", local.policy)
  max_session_duration = var.max_session_duration
  depends_on           = [aws_iam_openid_connect_provider.tokens]
}

resource "aws_iam_role_policy" "administrator" {
  name   = "administered-organizations"
  role   = aws_iam_role.administrator.id
  policy = templatefile("${path.module}/policies/administrator-role-permissions.json.tftpl", local.policy)
}
