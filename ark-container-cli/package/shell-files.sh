#!/usr/bin/env bash
# Writes what goes beside the programs into a folder: man/ and completions/, as the tool itself prints them.
#
#     ark-container-cli/package/shell-files.sh TOOL FOLDER
set -euo pipefail
tool="${1:?the path of ark-catalog-container-tool}" folder="${2:?where to write}"

rm -rf "$folder/man" "$folder/completions"
mkdir -p "$folder/completions"
"$tool" --man "$folder/man" >/dev/null
name=ark-catalog-container-tool
"$tool" --completions bash > "$folder/completions/$name.bash"
"$tool" --completions zsh > "$folder/completions/_$name"
"$tool" --completions fish > "$folder/completions/$name.fish"
"$tool" --completions powershell > "$folder/completions/$name.ps1"
