package ready_test

import (
	"fmt"

	"holdfast/handoff/ready"
)

func ExampleParseMode() {
	for _, text := range []string{"http:8080/healthz", "exec:pg_isready -q", "http"} {
		m, err := ready.ParseMode(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(m.Kind, m.Port, m.Path, m.Command)
	}
	// Output:
	// http 8080 /healthz []
	// exec 0  [pg_isready -q]
	// "http" has no path: want http:[PORT]/PATH, such as http:/healthz or http:8080/healthz
}
