output "access_role_arn" {
  description = "For [ecr] role_arn of the configuration file, or ARK_ROLE_ARN."
  value       = aws_iam_role.access.arn
}

output "administrator_role_arn" {
  description = "For [ecr] administrator_role_arn of the configuration file, or ARK_ADMINISTRATOR_ROLE_ARN."
  value       = aws_iam_role.administrator.arn
}

output "repository_policy" {
  description = "For the file in [ecr] repository_policy; null if repositories get no policy."
  value       = local.repository_policy
}
