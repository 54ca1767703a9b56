use super::super::sample::Sample;
use super::*;

#[test]
fn a_sweep_removes_what_is_old_and_open_nowhere() {
    let (sample, path) = Sample::with_repository("a/b");
    let store = &sample.store;
    let [abandoned, running] = [(); 2].map(|()| store.start_upload(&path).unwrap());
    let upload = store.open_upload(&path, &running).unwrap();
    assert_eq!(store.sweep(Duration::from_secs(3600)).unwrap(), Swept::default());
    let swept = store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, Swept { uploads: 1, leftovers: 0 });
    assert!(store.upload_size(&path, &abandoned).is_err());
    assert_eq!(store.upload_size(&path, &running).unwrap(), 0);
    drop(upload);
}

#[test]
fn leftovers_of_killed_processes_go_and_nothing_else() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_image(&path, "v1", b"layer");
    let root = sample.folder.path();
    let outside = root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    fs::create_dir_all(root.join("_trash/x/blobs")).unwrap();
    fs::create_dir_all(root.join("_tmp/y")).unwrap();
    fs::write(root.join("_tmp/z"), "").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("_trash/link")).unwrap();
    let fresh = sample.store.sweep(Duration::from_secs(3600)).unwrap();
    assert_eq!(fresh.leftovers, 2, "only the trash: what is temporary may be in use");
    let swept = sample.store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, Swept { uploads: 0, leftovers: 2 });
    assert!(outside.join("file").exists(), "a link was followed");
    assert_eq!(sample.store.images(&path).unwrap()[0].digest, digest);
}

#[test]
fn a_link_in_place_of_the_trash_is_refused() {
    let sample = Sample::new();
    let root = sample.folder.path();
    let outside = root.join("outside");
    fs::create_dir_all(outside.join("folder")).unwrap();
    fs::remove_dir(root.join("_trash")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("_trash")).unwrap();
    assert_eq!(sample.store.sweep(Duration::ZERO).unwrap(), Swept::default());
    assert!(outside.join("folder").exists());
    assert!(Store::open(root.to_path_buf()).is_err());
}
