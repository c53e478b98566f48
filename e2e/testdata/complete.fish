# complete.fish SCRIPT LINE: what fish offers at the end of the line. The child's command in it is sample.
source $argv[1]
complete -c sample -l color -d colour
complete -C "$argv[2]"
