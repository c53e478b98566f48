// Command matrix hands real servers over under load, each ten times, restarts each ten times in the usual way for
// comparison, and writes what became of the requests to docs/servers.md.
//
//	go run ./e2e/matrix                     all rows; they are installed before (as root)
//	go run ./e2e/matrix -only nginx,caddy   some rows; the document's other rows stay as they are
//	go run ./e2e/matrix -only nginx -dry    print the figures, write nothing
//
// Its exit code is 0 only if every row kept its promise: no new connection lost and, unless the server breaks it off, no
// kept one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/e2e/matrix/measure"
	"holdfast/e2e/matrix/table"
)

func main() {
	only := flag.String("only", "", "the rows to measure, by their names, with commas between; all by default")
	n := flag.Int("n", 10, "how many handoffs and restarts")
	dry := flag.Bool("dry", false, "write nothing")
	list := flag.Bool("list", false, "print the rows' names")
	install := flag.Bool("install", true, "install the rows' servers before, by e2e/deps.sh")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := choose(*only)
	switch {
	case err != nil:
	case *list:
		for _, r := range rows {
			fmt.Println(r.Name)
		}
	default:
		err = matrix(ctx, rows, *n, *install, *dry)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// choose returns the rows with these names, in the table's order.
func choose(only string) ([]table.Row, error) {
	all := table.All()
	if only == "" {
		return all, nil
	}
	var rows []table.Row
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(r table.Row) bool { return r.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no row is called %q; -list prints them", name)
		}
		rows = append(rows, all[i])
	}
	return rows, nil
}

func matrix(ctx context.Context, rows []table.Row, n int, install, dry bool) error {
	if err := harness.CanPID1(); err != nil {
		return fmt.Errorf("no PID namespace can be made here: %w", err)
	}
	if install {
		if err := installed(rows); err != nil {
			return err
		}
	}
	clean, err := builds()
	if err != nil {
		return err
	}
	defer clean()
	m := machine()
	results, err := stored()
	if err != nil {
		return err
	}
	var broken []string
	for _, row := range rows {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r := measureRow(ctx, row, n)
		r.Machine = m
		fmt.Println(summary(r))
		if why := r.broken(row); why != "" {
			broken = append(broken, row.Name)
			fmt.Println("  BROKEN:", why)
		}
		results[row.Name] = r
		if !dry {
			if err := store(results); err != nil {
				return err
			}
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("these rows did not keep the promise: %s", strings.Join(broken, ", "))
	}
	return nil
}

func measureRow(ctx context.Context, row table.Row, n int) result {
	r := result{Name: row.Name, At: time.Now().UTC().Truncate(time.Second), N: n, Version: version(row)}
	r.Trouble = run(ctx, func(t testing.TB) { r.Handoffs, r.Restarts = measure.Try(t, row, n, true) })
	return r
}

// builds has the harness build into a directory that is removed by the function that it returns.
func builds() (clean func(), err error) {
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		return nil, err
	}
	return func() { _ = os.RemoveAll(dir) }, os.Setenv("HOLDFAST_E2E_DIR", dir)
}

// installed has e2e/deps.sh install what the rows need.
func installed(rows []table.Row) error {
	var needs []string
	for _, r := range rows {
		needs = append(needs, r.Needs...)
	}
	if len(needs) == 0 {
		return nil
	}
	slices.Sort(needs)
	cmd := exec.Command("e2e/deps.sh", slices.Compact(needs)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install the servers: %w", err)
	}
	return nil
}
