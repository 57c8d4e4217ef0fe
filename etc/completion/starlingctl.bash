# bash completion of starlingctl: the program itself says what may come next.
_starlingctl() {
    local IFS=$'\n' reply kind
    reply=$(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _STARLINGCTL_COMPLETE=bash_complete \
        /usr/sbin/starlingctl 2>/dev/null) || return
    COMPREPLY=()
    for reply in $reply; do
        kind=${reply%%,*}
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${reply#*,}") ;;
        esac
    done
}
complete -o nosort -F _starlingctl starlingctl
