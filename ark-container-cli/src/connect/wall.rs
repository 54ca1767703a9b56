//! What people call walls.

use ark_container_core::permission::Wall;

/// What people call these walls.
pub(crate) fn wall_names(walls: &[Wall]) -> String {
    let name = |wall: &Wall| match wall {
        Wall::Policy => "the policy",
        Wall::Credentials => "the scope of credentials",
        Wall::Iam => "IAM",
    };
    let names: Vec<&str> = walls.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
