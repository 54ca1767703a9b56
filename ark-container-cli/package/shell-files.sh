#!/usr/bin/env bash
# Writes the manual pages and completions of the tool to man/ and completions/ in a folder.
#
#     ark-container-cli/package/shell-files.sh TOOL FOLDER
set -euo pipefail
tool="${1:?the path of ark-catalog-container-tool}" folder="${2:?the folder to write to}"

rm -rf "$folder/man" "$folder/completions"
mkdir -p "$folder/completions"
"$tool" --man "$folder/man" >/dev/null
name=ark-catalog-container-tool
"$tool" --completions bash > "$folder/completions/$name.bash"
"$tool" --completions zsh > "$folder/completions/_$name"
"$tool" --completions fish > "$folder/completions/$name.fish"
"$tool" --completions powershell > "$folder/completions/$name.ps1"
