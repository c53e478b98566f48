package probes

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// age says how long ago something was, as coarsely as a person needs it: 12s, 3m05s, 2h10m, 4d07h.
func age(d time.Duration) string {
	s := int(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", s/(24*3600), s/3600%24)
	}
}

// took says how long something took: finer than age where it was short, since a cutover is over in well under a second.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1fms", max(d, 0).Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	default:
		return age(d)
	}
}

// instant is how a moment is written, so that it can be found again in a log.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// seconds turns what a snapshot holds into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// oneLine keeps what the child said about itself from breaking a line, a table or the terminal that it is read on.
func oneLine(s string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	return strings.Join(strings.Fields(printable), " ")
}

// commandLine writes the words so that it is seen where each ends, and cuts a very long line: the JSON has all of it.
func commandLine(words []string) string {
	const width = 88
	var all []string
	for _, word := range words {
		if word == "" || strings.ContainsFunc(word, needsQuotes) {
			word = strconv.Quote(word)
		}
		all = append(all, word)
	}
	line := []rune(strings.Join(all, " "))
	if len(line) > width {
		return string(line[:width-3]) + "..."
	}
	return string(line)
}

func needsQuotes(r rune) bool {
	return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("\"'\\$`;&|<>*?()#", r)
}

// short cuts a hash to what tells two apart.
func short(hash string) string {
	hash = oneLine(hash)
	if len(hash) > 12 {
		return hash[:12]
	}
	return hash
}

// orDash fills an empty cell, so that columns can be counted.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// number is a generation or a process; 0 means that there is none.
func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// counted is "1 restart", "2 restarts".
func counted[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
