//! Many images at once.

use std::collections::BTreeSet;

use super::{Project, image};
use crate::ecr::{Cloud, ROLE, alice};

const COUNT: usize = 20;

#[test]
fn twenty_images_are_pushed_with_one_login() {
    let cloud = Cloud::new();
    let lists: String = (0..COUNT)
        .map(|number| {
            let tags = if number == 7 { "TAGS 1 2 3" } else { "" };
            image(&format!("image-{number}"), &format!("number-{number} {tags}"))
        })
        .collect();
    let mut project = Project::new(&cloud.sandbox, &lists);
    for number in 0..COUNT {
        project.write(&format!("number-{number}"), &number.to_string());
    }
    project.commit("v2");
    for (name, value) in cloud.aws.environment(alice().access_key()) {
        project = project.with(name, &value);
    }
    let role = format!("arn:aws:iam::{}:role/{ROLE}", cloud.aws.host().account());
    let project = project
        .with("ARK_REGISTRY", &format!("ecr://{}/prod", cloud.aws.host()))
        .with("ARK_ROLE_ARN", &role)
        .configured("Ninja", &[]);

    let run = project.build("ark-docker", &["-j", "4"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(cloud.aws.count("ecr:GetAuthorizationToken"), 1);
    assert_eq!(cloud.aws.count("sts:AssumeRole"), 1);
    let urls: Vec<String> =
        (0..COUNT).map(|number| project.read(&format!("build/image-{number}.image"))).collect();
    for (number, url) in urls.iter().enumerate() {
        let expected = format!("{}@sha256:", cloud.image(&format!("catalog/image-{number}")));
        assert!(url.starts_with(&expected), "{url}");
    }
    let digests: BTreeSet<&str> =
        urls.iter().filter_map(|url| url.split_once('@')).map(|(_, digest)| digest).collect();
    assert_eq!(digests.len(), COUNT, "each image is one of its own");
    let tags = |name: &str| project.listed(name)[0]["tags"].clone();
    assert_eq!(tags("catalog/image-7"), serde_json::json!(["1", "2", "3"]));
    assert_eq!(tags("catalog/image-19"), serde_json::json!(["v2"]));
    assert_eq!(project.built("ark-docker"), (vec![], vec![]));
}
