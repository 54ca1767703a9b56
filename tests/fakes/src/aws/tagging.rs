//! Resource Groups Tagging, according to its service model of 2017-01-26: `GetResources`.
//!
//! Source: <https://github.com/boto/botocore/blob/develop/botocore/data/resourcegroupstaggingapi/2017-01-26/service-2.json.gz>

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws::faults::Kind;
use crate::aws::iam::Circumstances;
use crate::aws::protocol::ApiError;
use crate::aws::registries::behind;
use crate::aws::server::{Exchange, Paging};

/// Source: `ResourcesPerPage` in the service model's documentation: 100 by default and at most.
const MAX_PAGE_SIZE: usize = 100;

/// Source: `TagFilterList` in the service model.
const MAX_FILTERS: usize = 50;

/// Source: `TagValueList` in the service model.
const MAX_VALUES: usize = 20;

/// Source: `GetResourcesInput` in the service model; all members are optional. The fake does not support tag policies,
/// lists of ARNs and `TagsPerPage`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Request {
    pagination_token: Option<String>,
    #[serde(default)]
    tag_filters: Vec<TagFilter>,
    resources_per_page: Option<i64>,
    #[serde(default)]
    resource_type_filters: Vec<String>,
}

/// Source: `TagFilter` in the service model.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct TagFilter {
    key: String,
    #[serde(default)]
    values: Vec<String>,
}

impl TagFilter {
    /// Returns whether tags have the key with one of the values. A filter without values matches any value.
    fn takes(&self, tags: &BTreeMap<String, String>) -> bool {
        let value = tags.get(&self.key);
        value.is_some_and(|value| self.values.is_empty() || self.values.contains(value))
    }
}

/// Returns the response to a signed request.
pub(super) async fn answer(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    if exchange.operation != "GetResources" {
        let operation = &exchange.operation;
        let message = format!("the fake of AWS does not support {operation} of this service");
        return Err(ApiError::new(exchange.service.error_codes().unknown_operation, message));
    }
    let request: Request = exchange.request()?;
    exchange.authorize("tag:GetResources", "*", &Circumstances::default())?;
    let paging = request.paging(exchange)?;
    let caller = exchange.caller()?;
    let world = exchange.world;
    // The index has only tagged resources.
    let takes = |tags: &BTreeMap<String, String>| {
        !tags.is_empty() && request.tag_filters.iter().all(|filter| filter.takes(tags))
    };
    let describe = |name: &str, tags: &BTreeMap<String, String>| {
        let (partition, region) = (world.host.partition(), world.host.region());
        let tags = tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
        json!({
            "ResourceARN": format!("arn:{partition}:ecr:{region}:{}:repository/{name}", caller.account),
            "Tags": tags.collect::<Vec<_>>(),
        })
    };
    let stale = world.stale_index();
    let (page, next) = match &*stale {
        _ if !request.takes_repositories() => (Vec::new(), None),
        Some(index) if caller.account == world.host.account() => {
            let known = behind(index, paging.after()).filter(|(_, tags)| takes(tags));
            paging.page(exchange, known, describe)
        }
        _ => world.registries.with(&caller.account, |repositories| {
            let known = behind(repositories, paging.after());
            let known = known.map(|(name, repository)| (name, &repository.tags));
            paging.page(exchange, known.filter(|(_, tags)| takes(tags)), describe)
        }),
    };
    // The last page has an empty token.
    Ok(json!({ "ResourceTagMappingList": page, "PaginationToken": next.unwrap_or_default() }))
}

impl Request {
    fn paging(&self, exchange: &Exchange<'_>) -> Result<Paging, ApiError> {
        let invalid = |message: &str| ApiError::new("InvalidParameterException", message);
        let filters = &self.tag_filters;
        if filters.len() > MAX_FILTERS || filters.iter().any(|f| f.values.len() > MAX_VALUES) {
            return Err(invalid("A request has at most 50 tag filters of at most 20 values each"));
        }
        let size = match self.resources_per_page.map(usize::try_from) {
            None => MAX_PAGE_SIZE,
            Some(Ok(size @ 1..=MAX_PAGE_SIZE)) => size,
            Some(_) => return Err(invalid("ResourcesPerPage must be from 1 to 100")),
        };
        let token = self.pagination_token.clone().filter(|token| !token.is_empty());
        Paging::new(exchange, size, token).ok_or_else(|| {
            // Source: `PaginationTokenExpiredException` of GetResources.
            match exchange.has_fault(&Kind::ExpiredPageToken) {
                true => ApiError::new("PaginationTokenExpiredException", "The token has expired"),
                false => invalid("Invalid PaginationToken"),
            }
        })
    }

    fn takes_repositories(&self) -> bool {
        let filters = &self.resource_type_filters;
        filters.is_empty() || filters.iter().any(|kind| kind == "ecr" || kind == "ecr:repository")
    }
}
