# A registry whose users have tokens of an identity provider instead of AWS accounts: its roles, and the settings of
# the account.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.29"
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

    additional_actions = var.additional_actions
  }

  repository_policy = var.repository_policy ? templatefile("${path.module}/policies/repository.json.tftpl", {}) : null
}

# An account has each provider once. If it exists for another audience, add this audience to it there.
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

# A push mounts layers of other repositories instead of sending them.
resource "aws_ecr_account_setting" "blob_mounting" {
  region = local.host.region
  name   = "BLOB_MOUNTING"
  value  = "ENABLED"
}

# Repositories that ECR creates get the organization tag, by which they are listed, and policies that users may not set.
resource "aws_ecr_repository_creation_template" "organization" {
  for_each = var.organizations

  region            = local.host.region
  prefix            = "${var.stage}/${each.key}"
  description       = "Repositories of the organization ${each.key}"
  applied_for       = concat(["PULL_THROUGH_CACHE", "REPLICATION"], var.create_on_push ? ["CREATE_ON_PUSH"] : [])
  custom_role_arn   = aws_iam_role.creation[0].arn
  resource_tags     = { "ark:organization" = each.key }
  lifecycle_policy  = var.lifecycle_policy
  repository_policy = local.repository_policy
}

# The role with which ECR tags the repositories that it creates.
resource "aws_iam_role" "creation" {
  count = length(var.organizations) > 0 ? 1 : 0

  name        = "${var.name}-creation"
  description = "ECR creates repositories by templates"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecr.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "creation" {
  count = length(var.organizations) > 0 ? 1 : 0

  name = "creation"
  role = aws_iam_role.creation[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["ecr:CreateRepository", "ecr:ReplicateImage", "ecr:TagResource"]
      Resource = "arn:${local.policy.partition}:ecr:${local.host.region}:${local.host.account}:repository/${var.stage}/*"
    }]
  })
}
