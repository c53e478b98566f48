package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The bounds of an answer: no line, head or body may fill the memory.
const (
	maxHead = 64 << 10
	maxBody = 64 << 20
	keptOf  = 4 << 10 // of a body that is kept for Options.Generation
)

// Answer is what a generation number can be read from.
type Answer struct {
	Status int
	Header map[string]string // by lower-case name; of several with one name the last
	Body   []byte            // its first 4 KiB
	keep   bool              // the server keeps the connection open
}

// GenerationOf reads the generation from the header X-Generation, or else from "generation=N" in the body.
func GenerationOf(a Answer) (int, error) {
	if h, ok := a.Header["x-generation"]; ok {
		return strconv.Atoi(h)
	}
	return generationIn(a.Body)
}

func generationIn(body []byte) (int, error) {
	_, rest, ok := bytes.Cut(body, []byte("generation="))
	if !ok {
		return 0, fmt.Errorf("no generation in %.60q", body)
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	return strconv.Atoi(string(rest[:end]))
}

func badAnswer(a Answer, err error) error {
	if err != nil {
		return fmt.Errorf("%w: status %d: %w", ErrBad, a.Status, err)
	}
	return fmt.Errorf("%w: status %d: %.60q", ErrBad, a.Status, a.Body)
}

// readAnswer reads one whole answer to a GET and keeps *phase up to date on the way.
func readAnswer(in *bufio.Reader, phase *Phase) (Answer, error) {
	for {
		a, err := readHead(in)
		if err != nil {
			return a, err
		}
		if a.Status >= 100 && a.Status < 200 {
			continue // an interim answer; the real one follows
		}
		*phase = PhaseBody
		return a, readBody(in, &a)
	}
}

func readHead(in *bufio.Reader) (Answer, error) {
	left := maxHead
	first, err := readLine(in, &left)
	if err != nil {
		return Answer{}, err
	}
	proto, rest, _ := strings.Cut(first, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(proto, "HTTP/1.") || status < 100 || status > 599 {
		return Answer{}, fmt.Errorf("%w: not HTTP: %.60q", ErrBad, first)
	}
	a := Answer{Status: status, Header: map[string]string{}}
	for {
		line, err := readLine(in, &left)
		if err != nil {
			return a, err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		a.Header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	connection := strings.ToLower(a.Header["connection"])
	a.keep = proto == "HTTP/1.1" && connection != "close" || connection == "keep-alive"
	return a, nil
}

// readLine reads one line without its end and takes its length off *left.
func readLine(in *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if *left -= len(part); *left < 0 {
			return "", fmt.Errorf("%w: head too long", ErrBad)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}

func readBody(in *bufio.Reader, a *Answer) error {
	body := &keeper{}
	defer func() { a.Body = body.kept }()
	length, sized := a.Header["content-length"]
	switch {
	case a.Status == 204 || a.Status == 304:
		return nil
	case strings.EqualFold(a.Header["transfer-encoding"], "chunked"):
		return readChunks(in, body)
	case sized:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n < 0 || n > maxBody {
			return fmt.Errorf("%w: content-length %.20q", ErrBad, length)
		}
		_, err = io.CopyN(body, in, n)
		return err
	}
	// Its end is the connection's.
	a.keep = false
	if n, err := io.Copy(body, io.LimitReader(in, maxBody)); err != nil {
		return err
	} else if n == maxBody {
		return fmt.Errorf("%w: body too long", ErrBad)
	}
	return nil
}

func readChunks(in *bufio.Reader, body io.Writer) error {
	var total int64
	for {
		left := maxHead
		line, err := readLine(in, &left)
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if total += n; err != nil || n < 0 || total > maxBody {
			return fmt.Errorf("%w: chunk of %.20q", ErrBad, size)
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(body, in, n); err != nil {
			return err
		}
		if end, err := readLine(in, &left); err != nil {
			return err
		} else if end != "" {
			return fmt.Errorf("%w: no end of line after a chunk", ErrBad)
		}
	}
	left := maxHead
	for { // the trailer section, empty as a rule
		line, err := readLine(in, &left)
		if err != nil || line == "" {
			return err
		}
	}
}

// keeper keeps the first keptOf bytes written to it.
type keeper struct{ kept []byte }

func (k *keeper) Write(p []byte) (int, error) {
	k.kept = append(k.kept, p[:min(len(p), keptOf-len(k.kept))]...)
	return len(p), nil
}
