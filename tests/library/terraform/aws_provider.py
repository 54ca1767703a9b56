"""A stand-in for Terraform's AWS provider if that cannot be fetched. It has only the schema of the resources in the
module. Arguments and attributes are those of the provider's documentation.

Source: https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/iam_role,
.../iam_role_policy, .../iam_openid_connect_provider, .../ecr_account_setting, .../ecr_repository_creation_template and
.../data-sources/partition
"""

from tf.iface import DataSource, Provider, Resource
from tf.runner import run_provider
from tf.schema import Attribute, Schema
from tf.types import Bool, Map, Number, Set, String


def required(name, of):
    return Attribute(name, of, required=True)


def optional(name, of):
    return Attribute(name, of, optional=True)


def computed(name, of):
    return Attribute(name, of, computed=True)


def either(name, of):
    """An optional attribute with a computed default."""
    return Attribute(name, of, optional=True, computed=True)


TAGS = [optional("tags", Map(String())), either("tags_all", Map(String()))]

RESOURCES = {
    "ecr_account_setting": [
        required("name", String()),
        required("value", String()),
        computed("id", String()),
        either("region", String()),
    ],
    "ecr_repository_creation_template": [
        required("applied_for", Set(String())),
        required("prefix", String()),
        optional("custom_role_arn", String()),
        optional("description", String()),
        optional("image_tag_mutability", String()),
        optional("lifecycle_policy", String()),
        optional("repository_policy", String()),
        optional("resource_tags", Map(String())),
        computed("id", String()),
        either("region", String()),
        computed("registry_id", String()),
    ],
    "iam_openid_connect_provider": [
        required("url", String()),
        required("client_id_list", Set(String())),
        either("thumbprint_list", Set(String())),
        computed("arn", String()),
        computed("id", String()),
        *TAGS,
    ],
    "iam_role": [
        required("assume_role_policy", String()),
        optional("description", String()),
        optional("force_detach_policies", Bool()),
        optional("max_session_duration", Number()),
        either("name", String()),
        either("name_prefix", String()),
        optional("path", String()),
        optional("permissions_boundary", String()),
        computed("arn", String()),
        computed("create_date", String()),
        computed("id", String()),
        computed("unique_id", String()),
        *TAGS,
    ],
    "iam_role_policy": [
        required("policy", String()),
        required("role", String()),
        either("name", String()),
        either("name_prefix", String()),
        computed("id", String()),
    ],
}

DATA_SOURCES = {
    "partition": [
        computed("dns_suffix", String()),
        computed("id", String()),
        computed("partition", String()),
        computed("reverse_dns_prefix", String()),
    ],
}


def kind(base, name, attributes):
    """Returns the class of a resource or data source, which the framework calls."""
    members = {
        "__init__": lambda self, provider: None,
        "get_name": classmethod(lambda cls: name),
        "get_schema": classmethod(lambda cls: Schema(attributes=attributes)),
    }
    return type(name, (base,), members)


class Aws(Provider):
    def get_model_prefix(self):
        return "aws_"

    def full_name(self):
        return "registry.terraform.io/hashicorp/aws"

    def get_provider_schema(self, diags):
        return Schema(attributes=[optional("region", String())])

    def validate_config(self, diags, config):
        pass

    def configure_provider(self, diags, config):
        pass

    def get_data_sources(self):
        return [kind(DataSource, name, attributes) for name, attributes in DATA_SOURCES.items()]

    def get_resources(self):
        return [kind(Resource, name, attributes) for name, attributes in RESOURCES.items()]

    # `terraform validate` only reads schemas, so nothing is created or read.
    def new_resource(self, klass):
        return unfinished(klass)

    def new_data_source(self, klass):
        return unfinished(klass)


def unfinished(klass):
    klass.__abstractmethods__ = frozenset()
    return klass(None)


if __name__ == "__main__":
    run_provider(Aws())
