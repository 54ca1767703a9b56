#!/usr/bin/env bash
# Builds the files of a release for this processor in target/release-files: an archive with the static programs, their manual
# pages, completions, CMake module and documentation; the Debian package; and the bill of materials. Requires:
#
#     cargo install --locked cargo-deb@3.8.0 cargo-cyclonedx@0.5.9
set -euo pipefail
cd "$(dirname "$0")/../.."

version="$(cargo pkgid -p ark-container-cli | sed 's/.*[#@]//')"
name="ark-catalog-container-tool-$version-$(uname -m)-linux"
files=target/release-files
rm -rf "$files"
mkdir -p "$files/$name"

static="$(ark-container-cli/package/static.sh)"
cp "$static/ark-catalog-container-tool" "$static/docker-credential-ark" "$files/$name/"
ark-container-cli/package/shell-files.sh "$static/ark-catalog-container-tool" "$files/$name"
cp -r ark-container-cli/cmake "$files/$name/"
# In the folders of the repository, so that the links between the documents work.
cp -r --parents LICENSE CHANGELOG.md README.md SECURITY.md docs ark-container-cli/README.md \
  ark-container-cli/screenshots/*.svg "$files/$name/"
tar --owner=0 --group=0 --numeric-owner -C "$files" -czf "$files/$name.tar.gz" "$name"
rm -r "${files:?}/$name"

cp "$(ark-container-cli/package/deb.sh)" "$files/"

# cargo-cyclonedx writes a file for every member of the workspace, in the folder of the member.
cargo cyclonedx --quiet --manifest-path ark-container-cli/Cargo.toml --format json --spec-version 1.5 \
  --no-build-deps
mv ark-container-cli/ark-container-cli.cdx.json "$files/$name.cdx.json"
rm -f ./*/*.cdx.json
# The path of the build folder must not be published.
sed -i "s|path+file://$PWD/|path+file:///|g" "$files/$name.cdx.json"

# The file of the sums is created after they are computed, so that it is none of the files.
sums="$(cd "$files" && sha256sum -- *)"
tee "$files/$name.sha256" <<<"$sums"
