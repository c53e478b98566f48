# complete.bash SCRIPT LINE: what bash offers at the end of the line, and ? where it leaves that to others. The child's
# command in it is sample.
source "$1"
_command_offset() { COMPREPLY=("word $1"); }
compopt() { :; }
COMP_LINE=$2 COMP_POINT=${#2}
_holdfast
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
