package reaper

import (
	"os"
	"strings"
	"testing"
)

const statTail = " 4194304 100 0 0 0 1 2 3 4 20 0 1 0 "

func TestParseStat(t *testing.T) {
	for name, c := range map[string]struct {
		stat string
		want Process
	}{
		"plain":              {"7 (sh) S 1 7 7 0 -1" + statTail + "99 4096 100 18446744073709551615", Process{7, 1, 7, 7, 'S', 99, "sh"}},
		"line end":           {"7 (sh) S 1 7 7 0 -1" + statTail + "99\n", Process{7, 1, 7, 7, 'S', 99, "sh"}},
		"spaces":             {"8 (a b  c) R 7 7 7 0 -1" + statTail + "100 0", Process{8, 7, 7, 7, 'R', 100, "a b  c"}},
		"parentheses":        {"9 ((sd-pam)) Z 7 9 9 0 -1" + statTail + "101 0", Process{9, 7, 9, 9, 'Z', 101, "(sd-pam)"}},
		"looks like the end": {"9 (a) S 1 1 1) D 7 9 9 0 -1" + statTail + "101 0", Process{9, 7, 9, 9, 'D', 101, "a) S 1 1 1"}},
		"newline":            {"9 (a\nb) T 7 9 9 0 -1" + statTail + "101 0", Process{9, 7, 9, 9, 'T', 101, "a\nb"}},
		"no name":            {"9 () S 7 9 9 0 -1" + statTail + "101 0", Process{9, 7, 9, 9, 'S', 101, ""}},
		"outside":            {"9 (x) S 0 0 0 0 -1" + statTail + "18446744073709551615 0", Process{9, 0, 0, 0, 'S', 1<<64 - 1, "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseStat([]byte(c.stat)); err != nil || got != c.want {
				t.Errorf("parseStat(%q) = %+v, %v, want %+v", c.stat, got, err, c.want)
			}
		})
	}
	for name, stat := range map[string]string{
		"empty":            "",
		"no name":          "7 S 1 7 7 0",
		"name not ended":   "7 (sh S 1 7 7 0 -1" + statTail + "99",
		"order":            "7 )sh( S 1 7 7 0 -1" + statTail + "99",
		"no pid":           "(sh) S 1 7 7 0 -1" + statTail + "99",
		"pid is no number": "x (sh) S 1 7 7 0 -1" + statTail + "99",
		"no parent":        "7 (sh) S",
		"cut":              "7 (sh) S 1 7 7 0 -1" + strings.TrimSuffix(statTail, " 0 "),
		"state of two":     "7 (sh) SS 1 7 7 0 -1" + statTail + "99",
		"parent":           "7 (sh) S x 7 7 0 -1" + statTail + "99",
		"start":            "7 (sh) S 1 7 7 0 -1" + statTail + "-99",
	} {
		t.Run("not "+name, func(t *testing.T) {
			if got, err := parseStat([]byte(stat)); err == nil {
				t.Errorf("parseStat(%q) = %+v, want an error", stat, got)
			}
		})
	}
}

// TestReadProcess: the kernel's own line, of this process.
func TestReadProcess(t *testing.T) {
	p, err := ReadProcess(os.Getpid())
	if err != nil || p.PID != os.Getpid() || p.Parent != os.Getppid() || p.Start == 0 || p.State == 0 {
		t.Errorf("ReadProcess(self) = %+v, %v", p, err)
	}
	if p, err := ReadProcess(1 << 30); err == nil {
		t.Errorf("a process that cannot be: %+v", p)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (sh) S 1 7 7 0 -1" + statTail + "99 4096"))
	f.Add([]byte("9 (a) S 1 1 1) D 7 9 9 0 -1" + statTail + "101"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		p, err := parseStat(stat)
		if err != nil {
			if p != (Process{}) {
				t.Errorf("an error and %+v", p)
			}
			return
		}
		if !strings.Contains(string(stat), "("+p.Name+")") || p.State == 0 {
			t.Errorf("parseStat(%q) = %+v", stat, p)
		}
	})
}
