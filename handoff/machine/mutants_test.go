package machine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mutantVariable tells a mutant's own run of TestExplore for which invariant it looks.
const mutantVariable = "MACHINE_TEST_MUTANT"

// mutant is the machine with one thing broken: in file, old, which stands there once, has become new.
type mutant struct {
	by             invariant // that must catch it
	what           string
	file, old, new string
}

// mutants are the ways in which the machine is broken on purpose, so that each invariant is seen to be able to fail.
func mutants() []mutant {
	return []mutant{
		{oneLive, "the old generation stays live at the cutover", "handoff.go",
			"old.State, g.State = status.Draining, status.Live", "g.State = status.Live"},
		{oneLive, "the failed one stays live when the switch turns back", "handoff.go",
			"old.State, g.State = status.Live, status.Failed", "old.State = status.Live"},
		{sockets, "the live generation's sockets are retired when its processes are gone", "step.go",
			"case n != s.Live:\n\t\ts.gone(n)", "case true:\n\t\ts.gone(n)"},
		{sockets, "after the cutover the old generation is still taken for the live one", "handoff.go",
			"s.Live, s.Overdue = n, false", "s.Overdue = false"},
		{sockets, "after the turn back the failed one is still taken for the live one", "handoff.go",
			"\ts.Live = h.From\n", ""},
		{overlap, "the old generation is stopped when the new one is started", "handoff.go",
			"s.Handoff.Stage, s.Handoff.To = Starting, n", "s.Handoff.Stage, s.Handoff.To = Starting, n\n\ts.stop(s.Live)"},
		{overlap, "a generation that runs is taken for proven", "step.go",
			"g.State = status.Proving\n\t\ts.do(Action{Kind: Prove, Gen: n})",
			"g.State = status.Proving\n\t\ts.Handoff.Stage = Turning\n\t\ts.do(Action{Kind: Cutover, Gen: n, From: s.Live})"},
		{overlap, "the old generation is stopped when the soak begins", "handoff.go",
			"s.do(Action{Kind: Recheck, Gen: n})", "s.do(Action{Kind: Recheck, Gen: n})\n\t\t\ts.stop(h.From)"},
		{overlap, "the old generation is stopped while it settles", "handoff.go",
			"s.do(Action{Kind: Settle, Gen: old.Number})", "s.do(Action{Kind: Settle, Gen: old.Number})\n\ts.stop(old.Number)"},
		{gone, "nothing bounds the drain", "step.go",
			"g.Bounded = true\n\t\ts.arm(DrainTimer, n)", "g.Bounded = true"},
		{gone, "the drain timeout kills nobody", "step.go",
			"case DrainTimer:\n\t\ts.kill(e.Gen, \"its drain timeout is over\")", "case DrainTimer:"},
		{gone, "any number of generations may drain", "step.go",
			`s.trim(status.Draining, "drain")`, ""},
		{gone, "what a main process has left behind is never told", "step.go",
			"s.leftovers(e.Gen)", "_ = s.nextOnItsWay"},
		{gone, "a generation is forgotten with its sockets open", "step.go",
			"s.do(Action{Kind: Retire, Gen: n})", ""},
		{gone, "a failed generation is not stopped", "handoff.go",
			"s.disarm(ReadyTimer, n)\n\ts.stop(n)", "s.disarm(ReadyTimer, n)"},
		{gone, "the old generation is not told when the switch does not turn back", "handoff.go",
			"s.stopOld(h.From)\n\t\ts.bound(h.From)", ""},
		{gone, "what drains is left behind at the exit", "end.go",
			`s.do(Action{Kind: Kill, Gen: g.Number, Reason: "holdfast exits"})`, "_ = g"},
		{answered, "a trigger during a handoff is lost", "handoff.go",
			`if s.Pending == "" {`, `if s.Pending == "" && s.Handoff.Stage == None {`},
		{answered, "a handoff answers triggers that came after it had begun", "handoff.go",
			"Reason: reason, Through: s.Handoff.Through", "Reason: reason, Through: s.Tickets"},
		{answered, "a failed handoff forgets the trigger that waits", "handoff.go",
			"s.Handoff = Handoff{}", `s.Handoff, s.Pending = Handoff{}, ""`},
		{answered, "a restart that answers triggers does not say so", "step.go",
			"From: s.Live, Through: s.Tickets}", "From: s.Live}"},
		{readyz, "a trigger that waits does not close it", "machine.go",
			`return m.Confirming || m.Pending != ""`, "return m.Confirming"},
		{readyz, "it opens before the live one is confirmed", "handoff.go",
			"s.Confirming = true\n", "\n"},
		{readyz, "a dead generation is said to serve", "machine.go",
			"ok && !g.MainGone", "ok && g.Number > 0"},
		{readyz, "it stays closed while the old generation settles", "machine.go",
			"case None, Soaking, Settling:", "case None, Soaking:"},
		{readyz, "a live generation counts as proven from its start", "step.go",
			"n := s.add(status.Live)", "n := s.add(status.Live)\n\ts.gen(n).Proven = true"},
		{recovery, "the backoff timer starts nothing", "step.go",
			"if s.Backoff {\n\t\t\ts.restart(\"restart\")", "if s.Backoff {\n\t\t\ts.Backoff = false"},
		{recovery, "a live one that died while its successor failed is not replaced", "handoff.go",
			"s.restartOrExit(Event{Gen: s.Live, Code: live.Code, Reason: reason})\n\t\tif s.Ending == NotEnding {", "if s.Ending == NotEnding {"},
		{recovery, "the switch turns back to a dead generation", "step.go",
			"case n == h.From && s.whole():", "case false:"},
		{recovery, "a live generation's exit is not noticed", "step.go",
			"case n == s.Live:\n\t\ts.liveExited(e)", "case n == s.Live:"},
		{recovery, "a check that fails ends nothing", "step.go",
			"s.decide(status.FailedHandoff, e.Reason)\n\t\t\ts.confirm()", "s.confirm()"},
		{contract, "the drain timeout is armed anew each time", "step.go",
			"!g.Bounded {", "true {"},
		{contract, "a handoff begins while another is in flight", "handoff.go",
			`s.Pending == "" && !s.News || s.Handoff.Stage != None ||`, `s.Pending == "" && !s.News ||`},
		{contract, "a watch action begins while another is in flight", "handoff.go",
			"case s.Telling.Stage == NoTell:", "case true:"},
		{informed, "a change during a watch action is lost", "tell.go",
			"case s.Ending == NotEnding:", "case s.Ending == NotEnding && s.Telling.Stage == NoTell:"},
		{informed, "what a failed handoff knew is lost", "handoff.go",
			"s.News = s.News || s.Handoff.News && result != status.Completed", ""},
		{informed, "what was to be told when a handoff came first is lost", "handoff.go",
			"s.News = true // in case", "// in case"},
		{informed, "a check that passes tells nobody", "step.go",
			"case s.Telling.Stage == TellCheck:\n\t\t\ts.tell()", "case s.Telling.Stage == TellCheck:"},
		{informed, "a handoff takes the news of a change that came after the start of its generation", "handoff.go",
			"s.News = s.News || s.Handoff.News", "s.News = result != status.Completed && (s.News || s.Handoff.News)\n\t_ = s.Handoff.News"},
		{contract, "it goes on after the exit", "end.go",
			"s.Ending = Exited\n", "\n"},
		{contract, "a timer outlives its generation", "step.go",
			"s.disarm(WaitTimer, n)\n\ts.disarm(DrainTimer, n)", ""},
	}
}

// TestMutants compiles the machine with each of them and has TestExplore find it.
func TestMutants(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		t.Skip("this is one")
	}
	if testing.Short() {
		t.Skip("each is compiled")
	}
	caught := map[invariant]bool{}
	for _, m := range mutants() {
		caught[m.by] = true
		t.Run(string(m.by)+"/"+m.what, func(t *testing.T) {
			t.Parallel()
			out := m.run(t)
			if want := fmt.Sprintf("invariant %q", m.by); !strings.Contains(out, want) {
				t.Errorf("nobody says %s:\n%s", want, out)
			}
		})
	}
	for _, i := range invariants() {
		if !caught[i] {
			t.Errorf("no mutant shows that the check of %q can fail", i)
		}
	}
}

// run returns what TestExplore says of the mutant.
func (m mutant) run(t *testing.T) string {
	t.Helper()
	original, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s holds %q %d times, want once: the list of mutants must follow the code", m.file, m.old, n)
	}
	dir := t.TempDir()
	broken, overlay := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{broken: []byte(strings.Replace(string(text), m.old, m.new, 1)), overlay: replace} {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay="+overlay, "-run=^TestExplore$", "-short", "-failfast", "-count=1", ".")
	cmd.Env = append(slices.Clone(os.Environ()), mutantVariable+"="+string(m.by))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd, err)
	}
	return string(out)
}
