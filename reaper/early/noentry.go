//go:build !holdfast_entry

package early

// mend has nothing to do where the program's entry point is Go's own (entry.go).
func mend() {}
