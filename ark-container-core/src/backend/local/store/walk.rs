//! [`Walk`]: the folders that may be repositories, in the order of their names' bytes.

use std::collections::{BTreeSet, VecDeque};
use std::fs::FileType;
use std::path::{Path, PathBuf};

use super::durable::{self, cannot, is_folder};
use crate::error::Result;
use crate::model::{OrganizationId, Organizations, RepositoryName, RepositoryPath, Stage};

/// Walks through the folders of organizations, and of all names within them.
///
/// Each folder `a` stands for two things: the repository `a`, and what is below `a/`. With both as
/// keys, sorted by their bytes, `a` comes before `a-b` and that before `a/b`, as it does among whole
/// names; so one level of the tree at a time is enough, and nothing else is kept.
#[derive(Debug)]
pub(super) struct Walk {
    stage: Stage,
    folder: PathBuf,
    organizations: VecDeque<OrganizationId>,
    /// The organization that is being walked, with what remains at each level, last first.
    current: Option<(OrganizationId, Vec<Vec<String>>)>,
}

impl Walk {
    /// A walk through the organizations that have a folder in the stage's.
    pub(super) fn new(root: &Path, stage: &Stage, organizations: &Organizations) -> Result<Self> {
        let folder = root.join(stage.as_str());
        let present = if is_folder(&folder).map_err(cannot("read", &folder))? {
            present_organizations(&folder, organizations)?
        } else {
            VecDeque::new()
        };
        Ok(Self { stage: stage.clone(), folder, organizations: present, current: None })
    }

    /// Those organizations, as long as the walk has not begun.
    pub(super) fn into_organizations(self) -> BTreeSet<OrganizationId> {
        self.organizations.into_iter().collect()
    }

    /// The keys of the folders in an organization's, below `prefix`: last first.
    fn level(&self, organization: OrganizationId, prefix: &str) -> Result<Vec<String>> {
        let folder = self.folder.join(organization.to_string()).join(prefix);
        let mut keys = Vec::new();
        for child in folder_names(&folder)? {
            let name = format!("{prefix}{child}");
            if name.parse::<RepositoryName>().is_ok() {
                keys.push(format!("{name}/"));
                keys.push(name);
            }
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Ok(keys)
    }

    fn step(&mut self) -> Result<Option<RepositoryPath>> {
        loop {
            let Some((organization, levels)) = &mut self.current else {
                let Some(organization) = self.organizations.pop_front() else { return Ok(None) };
                let level = self.level(organization, "")?;
                self.current = Some((organization, vec![level]));
                continue;
            };
            let organization = *organization;
            match levels.last_mut().map(Vec::pop) {
                None => self.current = None,
                Some(None) => {
                    levels.pop();
                }
                Some(Some(key)) if key.ends_with('/') => {
                    let level = self.level(organization, &key)?;
                    if let Some((_, levels)) = &mut self.current {
                        levels.push(level);
                    }
                }
                Some(Some(key)) => {
                    // A name that fits beside a shorter stage may be too long for this one.
                    let path = key.parse().and_then(|name| {
                        RepositoryPath::new(self.stage.clone(), organization, name)
                    });
                    if let Ok(path) = path {
                        return Ok(Some(path));
                    }
                }
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<RepositoryPath>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn present_organizations(
    stage: &Path,
    organizations: &Organizations,
) -> Result<VecDeque<OrganizationId>> {
    match organizations {
        Organizations::All => {
            let names = folder_names(stage)?;
            let parsed = names.iter().filter_map(|name| {
                name.parse::<OrganizationId>().ok().filter(|id| id.to_string() == *name)
            });
            let mut present: Vec<_> = parsed.collect();
            present.sort_unstable();
            Ok(present.into())
        }
        Organizations::Only(some) => {
            let mut present = VecDeque::new();
            for organization in some {
                let folder = stage.join(organization.to_string());
                if is_folder(&folder).map_err(cannot("read", &folder))? {
                    present.push_back(*organization);
                }
            }
            Ok(present)
        }
    }
}

/// The folders in a folder, but for links to some; none where it is gone.
pub(super) fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let names = durable::names(folder, FileType::is_dir)?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

#[cfg(test)]
mod tests;
