# bash: what ark-catalog-container-tool says can be typed.

_ark_catalog_container_tool() {
    local line="${COMP_LINE:0:COMP_POINT}" rest word index
    local -a words=()
    # bash cuts words at = and : too. What no blank stands between is one word here.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        rest="${line#"${line%%[![:space:]]*}"}"
        word="${COMP_WORDS[index]}"
        ((index < COMP_CWORD)) || word="$rest"
        if ((index)) && [[ "$rest" == "$line" ]]; then
            words[${#words[@]} - 1]+="$word"
        else
            words+=("$word")
        fi
        line="${rest#"$word"}"
    done

    # It replaces only what follows the last cut.
    local breaks="${COMP_WORDBREAKS//[^=:]/}" kept=""
    word="${words[${#words[@]} - 1]}"
    [[ -z "$breaks" ]] || kept="${word%"${word##*[$breaks]}"}"

    local program="${words[0]/#\~/$HOME}" paths candidate
    COMPREPLY=()
    {
        read -r paths
        while IFS=$'\t' read -r candidate _; do
            COMPREPLY+=("${candidate#"$kept"}")
            [[ "$candidate" != *[=:/] ]] || compopt -o nospace
        done
        case "$paths" in
            files) compopt -o default ;;
            folders) compopt -o dirnames ;;
        esac
    } < <("$program" --complete -- "${words[@]:1}") 2>/dev/null
}

complete -F _ark_catalog_container_tool ark-catalog-container-tool
