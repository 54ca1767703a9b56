# fish completion of ark-catalog-container-tool.

function __ark_catalog_container_tool
    set -l typed (commandline --current-process --tokenize --cut-at-cursor)
    # The token may start with an open quote.
    set -l current (commandline --current-token --cut-at-cursor | string replace --all --regex -- '["\']' '')
    set -l lines ($typed[1] --complete -- $typed[2..-1] "$current" 2>/dev/null)
    string join \n -- $lines[2..-1]
    # The prefix of a path, such as oci: or --file=, is not part of the path.
    set -l prefix (string match --regex -- '^.*[=:]' "$current")
    set -l path (string replace --regex -- '^.*[=:]' '' "$current")
    switch "$lines[1]"
        case files
            string replace --regex -- '^' "$prefix" (__fish_complete_path "$path")
        case folders
            string replace --regex -- '^' "$prefix" (__fish_complete_directories "$path" '')
    end
end

complete --command ark-catalog-container-tool --no-files --keep-order \
    --arguments '(__ark_catalog_container_tool)'
