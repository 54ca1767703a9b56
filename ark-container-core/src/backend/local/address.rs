//! Address at which a registry's folder is served. One process announces it, and others read it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::store::Store;
use crate::error::{Error, ResourceKind, Result};
use crate::model::RegistryHost;

/// The default address of a registry.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5050);

/// The file with the address of the process that serves the folder.
const ADDRESS_FILE: &str = "address";
/// The file that is locked while a process serves the folder. The lock ends with the process, even if it is killed.
const SERVE_LOCK: &str = "serve.lock";
/// The file that is locked while a process checks the other two files. A reader locks `serve.lock` too, and a process
/// that announces its address must not mistake the reader for a server.
const ADDRESS_LOCK: &str = "address.lock";

/// An announced address. Dropping it withdraws the announcement.
#[derive(Debug)]
pub(crate) struct Announcement {
    address: PathBuf,
    _serve_lock: File,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // A leftover address is ignored once the lock is free.
        if let Err(error) = fs::remove_file(&self.address) {
            tracing::debug!(path = %self.address.display(), %error, "cannot remove the address");
        }
    }
}

/// Announces that this process serves the folder at `address`.
///
/// # Errors
/// [`Error::Conflict`] if another process serves the folder, with its address if that is known.
pub(crate) fn announce(store: &Store, address: SocketAddr) -> Result<Announcement> {
    store.create()?;
    let root = store.root();
    let address_lock = store.open_lock(ADDRESS_LOCK)?;
    let serve_lock = store.open_lock(SERVE_LOCK)?;
    address_lock.lock().map_err(failed(root))?;
    match serve_lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let problem = match read_address(store)? {
                Some(other) => format!("is served already, at {other}"),
                None => "is served already".to_owned(),
            };
            return Err(Error::conflict(ResourceKind::File, root.display(), problem));
        }
        Err(TryLockError::Error(error)) => return Err(failed(root)(error)),
    }
    let file = root.join(ADDRESS_FILE);
    store.publish(&file, address.to_string().as_bytes())?;
    Ok(Announcement { address: file, _serve_lock: serve_lock })
}

/// Returns the address at which the folder is served, or the [default](DEFAULT_ADDRESS).
pub(crate) fn current(store: &Store) -> RegistryHost {
    served(store).unwrap_or_else(|| DEFAULT_ADDRESS.into())
}

/// Returns the address at which the folder is served, if it is.
pub(crate) fn served(store: &Store) -> Option<RegistryHost> {
    served_at(store).unwrap_or_else(|error| {
        tracing::debug!(%error, "the address of the registry is unknown");
        None
    })
}

fn served_at(store: &Store) -> Result<Option<RegistryHost>> {
    // Most folders are not served and need no lock.
    if read_address(store)?.is_none() {
        return Ok(None);
    }
    let root = store.root();
    let address_lock = store.open_lock(ADDRESS_LOCK)?;
    let serve_lock = store.open_lock(SERVE_LOCK)?;
    address_lock.lock_shared().map_err(failed(root))?;
    match serve_lock.try_lock_shared() {
        Ok(()) => Ok(None),
        // Another process may have started to serve after the first read.
        Err(TryLockError::WouldBlock) => read_address(store),
        Err(TryLockError::Error(error)) => Err(failed(root)(error)),
    }
}

fn read_address(store: &Store) -> Result<Option<RegistryHost>> {
    let address = store.read(ADDRESS_FILE)?;
    Ok(address.and_then(|address| String::from_utf8_lossy(&address).parse().ok()))
}

fn failed(root: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot check which process serves {}", root.display());
    move |error| Error::failed(message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn announced_address_is_used_while_process_serves() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_path_buf()).unwrap();
        assert_eq!(current(&store).as_str(), "127.0.0.1:5050");
        let announcement = announce(&store, address(1234)).unwrap();
        assert_eq!(current(&store).as_str(), "127.0.0.1:1234");
        let error = announce(&store, address(2)).unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }));
        assert!(error.to_string().ends_with("is served already, at 127.0.0.1:1234"), "{error}");
        // A file that other users can write is ignored.
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        fs::set_permissions(root.path().join(ADDRESS_FILE), mode(0o666)).unwrap();
        assert_eq!(current(&store).as_str(), "127.0.0.1:5050");
        drop(announcement);
        assert_eq!(current(&store).as_str(), "127.0.0.1:5050");
    }

    #[test]
    fn address_of_killed_process_is_ignored() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_path_buf()).unwrap();
        store.create().unwrap();
        store.publish(&root.path().join(ADDRESS_FILE), b"127.0.0.1:1234").unwrap();
        assert_eq!(current(&store).as_str(), "127.0.0.1:5050");
        let _announcement = announce(&store, address(3)).unwrap();
        assert_eq!(current(&store).as_str(), "127.0.0.1:3");
    }

    #[test]
    fn concurrent_readers_do_not_block_announcement() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_path_buf()).unwrap();
        store.create().unwrap();
        store.publish(&root.path().join(ADDRESS_FILE), b"127.0.0.1:1234").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..500).for_each(|_| drop(current(&store))));
            for port in 1..200 {
                drop(announce(&store, address(port)).unwrap());
            }
        });
    }
}
