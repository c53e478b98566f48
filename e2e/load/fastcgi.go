package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// FastCGI asks a FastCGI server, such as php-fpm, to run Script (an absolute path) as a GET. Go's standard library has
// the server's side alone.
type FastCGI struct {
	Script string
	// Generation reads the number of the generation that answered; GenerationOf by default.
	Generation func(Answer) (int, error)
}

// The record types and roles of the FastCGI specification 1.0, section 8.
const (
	fcgiBegin  = 1
	fcgiEnd    = 3
	fcgiParams = 4
	fcgiStdin  = 5
	fcgiStdout = 6
	fcgiStderr = 7

	fcgiResponder = 1
	fcgiKeep      = 1 // the server leaves the connection open
	fcgiHead      = 8 // bytes of a record's header
)

// Request implements Protocol.
func (f FastCGI) Request(t *Talk) error {
	if err := t.send(f.request(!t.Last)); err != nil {
		return err
	}
	t.Begun = true
	out, err := readFastCGI(t.In, &t.Phase)
	if err != nil {
		return err
	}
	a, err := cgiAnswer(out)
	if err != nil {
		return err
	}
	generation := f.Generation
	if generation == nil {
		generation = GenerationOf
	}
	t.Generation, err = generation(a)
	if a.Status != 200 || err != nil {
		return badAnswer(a, err)
	}
	return nil
}

func (f FastCGI) request(keep bool) []byte {
	var flags byte
	if keep {
		flags = fcgiKeep
	}
	b := record(nil, fcgiBegin, []byte{0, fcgiResponder, flags, 0, 0, 0, 0, 0})
	var params []byte
	for _, p := range [][2]string{
		{"SCRIPT_FILENAME", f.Script}, {"REQUEST_METHOD", "GET"}, {"SCRIPT_NAME", "/"}, {"REQUEST_URI", "/"},
		{"SERVER_PROTOCOL", "HTTP/1.1"}, {"QUERY_STRING", ""}, {"CONTENT_LENGTH", "0"},
	} {
		params = append(params, byte(len(p[0])), byte(len(p[1]))) // each shorter than 128
		params = append(append(params, p[0]...), p[1]...)
	}
	b = record(b, fcgiParams, params)
	b = record(b, fcgiParams, nil)
	return record(b, fcgiStdin, nil)
}

// record appends one record of request 1 to b.
func record(b []byte, kind byte, content []byte) []byte {
	b = append(b, 1, kind, 0, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(content)))
	return append(append(b, 0, 0), content...)
}

// readFastCGI reads records until the request's end and returns what the script printed.
func readFastCGI(in *bufio.Reader, phase *Phase) ([]byte, error) {
	var out []byte
	for {
		var head [fcgiHead]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return nil, err
		}
		content := make([]byte, int(binary.BigEndian.Uint16(head[4:]))+int(head[6]))
		if _, err := io.ReadFull(in, content); err != nil {
			return nil, err
		}
		content = content[:len(content)-int(head[6])] // the padding
		switch head[1] {
		case fcgiStdout:
			*phase = PhaseBody
			if out = append(out, content...); len(out) > maxHead {
				return nil, fmt.Errorf("%w: too long", ErrBad)
			}
		case fcgiStderr:
			if len(content) > 0 {
				return nil, fmt.Errorf("%w: the script says: %.60q", ErrBad, content)
			}
		case fcgiEnd:
			if len(content) < 8 || content[4] != 0 {
				return nil, fmt.Errorf("%w: ended with % x", ErrBad, content)
			}
			return out, nil
		}
	}
}

// cgiAnswer takes a CGI answer apart (RFC 3875 §6): fields, an empty line, the body; 200 unless a Status says otherwise.
func cgiAnswer(out []byte) (Answer, error) {
	head, body, ok := bytes.Cut(out, []byte("\r\n\r\n"))
	if !ok {
		return Answer{}, fmt.Errorf("%w: not CGI: %.60q", ErrBad, out)
	}
	a := Answer{Status: 200, Header: map[string]string{}, Body: body[:min(len(body), keptOf)]}
	for line := range strings.Lines(string(head)) {
		name, value, _ := strings.Cut(line, ":")
		a.Header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	if s, ok := a.Header["status"]; ok {
		code, _, _ := strings.Cut(s, " ")
		status, err := strconv.Atoi(code)
		if err != nil {
			return a, fmt.Errorf("%w: status %.20q", ErrBad, s)
		}
		a.Status = status
	}
	return a, nil
}
