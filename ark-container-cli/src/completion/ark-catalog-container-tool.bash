# bash completion of ark-catalog-container-tool.

# Sets REPLY to a word without its quotes. Nothing in it is expanded.
_ark_catalog_container_tool_unquote() {
    local rest="$1" quote="" character
    REPLY=""
    while [[ -n "$rest" ]]; do
        character="${rest:0:1}" rest="${rest:1}"
        case "$quote$character" in
            \" | \') quote="$character" ;;
            \"\" | \'\') quote="" ;;
            \\ | \"\\) REPLY+="${rest:0:1}" rest="${rest:1}" ;;
            *) REPLY+="$character" ;;
        esac
    done
}

_ark_catalog_container_tool() {
    local line="${COMP_LINE:0:COMP_POINT}" rest word index
    local -a words=()
    # bash splits words at = and : too. Parts without a blank between them are joined again.
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

    # bash replaces only the text after the last split, or after an open quote.
    local breaks="${COMP_WORDBREAKS//[^=:]/}" kept=""
    word="${words[${#words[@]} - 1]}"
    if [[ "$word" == [\"\']* ]]; then
        breaks=""
    fi
    for index in "${!words[@]}"; do
        _ark_catalog_container_tool_unquote "${words[index]}"
        words[index]="$REPLY"
    done
    word="${words[${#words[@]} - 1]}"
    [[ -z "$breaks" ]] || kept="${word%"${word##*[$breaks]}"}"

    local program="${words[0]/#\~/$HOME}" paths candidate
    # An alias is expanded.
    if [[ -n "${BASH_ALIASES[${words[0]}]-}" ]]; then
        local -a alias=()
        eval "alias=(${BASH_ALIASES[${words[0]}]})"
        program="${alias[0]}"
        words=("${alias[@]}" "${words[@]:1}")
    fi
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
