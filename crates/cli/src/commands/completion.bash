
# Ids of containers, where a command takes them: those that the server has now.
_gantry_with_ids() {
    _gantry "$@"
    [[ $2 != -* ]] || return 0
    # Where the value of an option is wanted, no option is offered.
    local offered=("${COMPREPLY[@]}") word index command="" options=() ids
    _gantry "$1" "" "$3"
    local everything=" ${COMPREPLY[*]} "
    COMPREPLY=("${offered[@]}")
    [[ $everything == *" --help "* ]] || return 0
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        case $word in
            --address | --namespace)
                # bash makes three words of --namespace=moby.
                [[ ${COMP_WORDS[index + 1]} != "=" ]] || ((index++))
                options+=("$word" "${COMP_WORDS[++index]}")
                ;;
            -*) ;;
            *) [[ -n $command ]] || command=$word ;;
        esac
    done
    case $command in
        rm | wait | inspect | stats | exec | attach | kill | ps | top | logs | pause | resume | update) ;;
        *) return 0 ;;
    esac
    ids=$(gantry ps -q "${options[@]}" 2>/dev/null)
    case $command in
        rm | wait | inspect | stats) ;;
        *)
            # These take one, which may be there already.
            for ((index = 2; index < COMP_CWORD; index++)); do
                [[ $'\n'$ids$'\n' != *$'\n'"${COMP_WORDS[index]}"$'\n'* ]] || return 0
            done
            ;;
    esac
    [[ -z $ids ]] || mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$2")
}
complete -F _gantry_with_ids -o bashdefault -o default gantry
