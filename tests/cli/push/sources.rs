//! Images that docker, podman and buildah built, pushed from where they keep them.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::clients::contents;
use crate::daemon::Daemon;
use crate::sandbox::TBD;
use crate::served::Served;
use crate::tools::Tools;

/// A folder that docker, podman and buildah build an image from.
fn write_context(served: &Served) {
    let dockerfile = "FROM scratch\nCOPY greeting /etc/greeting\nCOPY data /srv/data\nLABEL a=b\n";
    served.sandbox.write("context/Dockerfile", dockerfile);
    served.sandbox.write("context/greeting", "hello\n");
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    served.sandbox.write("context/data", data);
}

/// A push of a source, where the program finds `docker` and `podman`.
fn push(served: &Served, source: &str) -> Command {
    let line = format!("--push a:v1 --from={source} --organization {TBD}");
    let mut push = served.sandbox.command(&line);
    let bin = served.sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
    push.env("PATH", path);
    push
}

/// The URL that a push printed.
fn pushed(served: &Served, push: &mut Command) -> String {
    let run = served.sandbox.finish(push);
    assert_eq!(run.code, 0, "{push:?}: {run:?}");
    run.stdout.trim_end().to_owned()
}

/// skopeo pulls what was pushed, and the configuration is the one that the builder has.
fn is_pulled(served: &Served, tools: &Tools<'_>, id: &str) {
    let folder = served.sandbox.path("pulled");
    let _ = fs::remove_dir_all(&folder);
    tools.printed(&format!("skopeo copy -q docker://{} dir:pulled", served.image("a:v1")));
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    assert!(contents(&folder).contains_key(hex), "{id}");
}

#[test]
fn an_image_of_docker_has_one_digest_from_wherever_it_comes() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let daemon = Daemon::start();
    let docker = |line: &str| tools.printed(&format!("docker --host {} {line}", daemon.host()));
    write_context(&served);
    let mut build =
        tools.command(&format!("docker --host {} build -q -t sample:1 context", daemon.host()));
    let built = served.sandbox.finish(build.env("DOCKER_BUILDKIT", "0"));
    assert_eq!(built.code, 0, "{built:?}");
    docker("tag sample:1 sample:latest");
    docker("tag sample:1 sample:other");
    let id = docker("images -q --no-trunc sample:1");
    docker("save -o saved.tar sample:1");
    docker("save -o all.tar sample");
    for (tool, name) in [("gzip", "saved.tar.gz"), ("zstd", "saved.tar.zst")] {
        let line = format!("{tool} -c saved.tar > {name}");
        let packed = served.sandbox.finish(&mut served.sandbox.shell(&line));
        assert_eq!(packed.code, 0, "{packed:?}");
    }
    let mut urls = BTreeSet::new();
    for source in [
        "docker-daemon:sample:1",
        "docker-daemon:sample",
        &format!("docker-daemon:{id}"),
        &format!("docker-daemon:{}", &id["sha256:".len()..][..12]),
        "sample:1",
        "docker-archive:saved.tar",
        "docker-archive:saved.tar.gz",
        "saved.tar.zst",
        "docker-archive:all.tar:sample:other",
        "docker-daemon:sample:1",
    ] {
        let mut push = push(&served, source);
        urls.insert(pushed(&served, push.env("DOCKER_HOST", daemon.host())));
    }
    // Piped as it is written, and redirected.
    let mut save = tools.command(&format!("docker --host {} save sample:1", daemon.host()));
    let mut saving = save.stdout(Stdio::piped()).spawn().unwrap();
    let mut piped = push(&served, "-");
    urls.insert(pushed(&served, piped.stdin(saving.stdout.take().unwrap())));
    assert!(saving.wait().unwrap().success());
    for name in ["saved.tar", "saved.tar.gz"] {
        let file = File::open(served.sandbox.path(name)).unwrap();
        urls.insert(pushed(&served, push(&served, "-:sample:1").stdin(file)));
    }
    assert_eq!(urls.len(), 1, "{urls:?}");
    is_pulled(&served, &tools, &id);

    let mut unknown = push(&served, "docker-daemon:unknown:1");
    let run = served.sandbox.finish(unknown.env("DOCKER_HOST", daemon.host()));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("image docker-daemon:unknown:1 does not exist"), "{run:?}");
}

#[test]
fn an_image_of_podman_and_buildah_has_one_digest_on_every_push() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    write_context(&served);
    // The sandbox's images, which podman does not find by itself.
    let podman = tools.command("podman");
    let words: Vec<String> = std::iter::once(podman.get_program())
        .chain(podman.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let variables = podman.get_envs().filter_map(|(name, value)| {
        Some(format!("export {}='{}'\n", name.to_str()?, value?.to_str()?))
    });
    let script =
        format!("#!/bin/sh\n{}exec {} \"$@\"\n", variables.collect::<String>(), words.join(" "));
    let script = served.sandbox.write("bin/podman", script);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(script, executable).unwrap();

    tools.printed("buildah bud -q --isolation chroot -t localhost/sample:1 context");
    tools.printed("podman tag localhost/sample:1 localhost/sample:latest");
    let id = tools.printed("podman images -q --no-trunc localhost/sample:1");
    tools.printed("podman save -q -o saved.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-archive -o oci.tar localhost/sample:1");
    let mut urls = BTreeSet::new();
    for source in [
        "podman:localhost/sample:1",
        "podman:localhost/sample",
        &format!("podman:{id}"),
        "localhost/sample:1",
        "docker-archive:saved.tar",
        "podman:localhost/sample:1",
    ] {
        urls.insert(pushed(&served, &mut push(&served, source)));
    }
    assert_eq!(urls.len(), 1, "{urls:?}");
    is_pulled(&served, &tools, &id);
    // There, its layers are compressed already: it is another manifest for the same image.
    let mut urls = BTreeSet::new();
    for source in ["oci-archive:oci.tar", "oci.tar", "oci-archive:oci.tar:localhost/sample:1"] {
        urls.insert(pushed(&served, &mut push(&served, source)));
    }
    let file = File::open(served.sandbox.path("oci.tar")).unwrap();
    urls.insert(pushed(&served, push(&served, "-").stdin(file)));
    assert_eq!(urls.len(), 1, "{urls:?}");
    is_pulled(&served, &tools, &id);

    let run = served.sandbox.finish(&mut push(&served, "podman:localhost/unknown:1"));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("image podman:localhost/unknown:1 does not exist"), "{run:?}");

    // A file of the same name: what is meant has to be said.
    served.sandbox.write("localhost/sample:1", fs::read(served.sandbox.path("saved.tar")).unwrap());
    let run = served.sandbox.finish(&mut push(&served, "localhost/sample:1"));
    assert_eq!(run.code, 2, "{run:?}");
    let expected = "\"localhost/sample:1\" may be several things; write ./localhost/sample:1 or \
        podman:localhost/sample:1";
    assert!(run.stderr.contains(expected), "{run:?}");
    let from_file = pushed(&served, &mut push(&served, "./localhost/sample:1"));
    let from_podman = pushed(&served, &mut push(&served, "podman:localhost/sample:1"));
    assert_eq!(from_file, from_podman);
}
