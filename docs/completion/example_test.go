package completion_test

import (
	"fmt"
	"strings"

	"holdfast/docs/completion"
)

// What fish is told of one flag.
func ExampleScript() {
	script, err := completion.Script("fish", "run", []completion.Scope{{Options: []completion.Option{
		{Name: "color", Short: "c", Usage: "when to use colours", Kind: completion.Words, Words: []string{"always", "never"}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(script) {
		if strings.Contains(line, "-l color") {
			fmt.Print(line)
		}
	}
	// Output:
	// complete -c run -n '__run_in -' -l color -s c -xa 'always never' -d 'when to use colours'
}
