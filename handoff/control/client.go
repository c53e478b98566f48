package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"holdfast/handoff/status"
)

// maxAnswer is far more than any answer; a holdfast that sends more is broken.
const maxAnswer = 8 << 20

// Client speaks with one running holdfast.
type Client struct {
	pid  int
	http http.Client
}

// PID is the process ID of the holdfast that the client speaks with.
func (c *Client) PID() int { return c.pid }

// Status reads the snapshot, and what is read with it.
func (c *Client) Status(ctx context.Context) (status.Document, error) {
	_, body, err := c.ask(ctx, http.MethodGet, "/statusz?format=json", http.StatusOK)
	if err != nil {
		return status.Document{}, fmt.Errorf("read status: %w", err)
	}
	doc := status.Document{Snapshot: &status.Snapshot{}}
	if err := json.Unmarshal(body, &doc); err != nil {
		return status.Document{}, fmt.Errorf("read status: %w", err)
	}
	return doc, nil
}

// Watch calls show with the present state and again whenever anything has changed, until ctx ends, show fails or holdfast
// has ended. The error says which; it is never nil.
func (c *Client) Watch(ctx context.Context, show func(status.Document) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast/statusz/events", nil)
	if err != nil {
		return fmt.Errorf("watch status: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("watch status: %w", plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("watch status: %s: %s", resp.Status, strings.TrimSpace(string(why)))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue // a comment, or the end of an event
		}
		doc := status.Document{Snapshot: &status.Snapshot{}}
		if err := json.Unmarshal([]byte(data), &doc); err != nil {
			return fmt.Errorf("watch status: %w", err)
		}
		if err := show(doc); err != nil {
			return err
		}
	}
	// A holdfast that exits leaves its answer unfinished.
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("watch status: %w", err)
	}
	return fmt.Errorf("watch status: %w", ErrEnded)
}

// ErrEnded says that holdfast has ended while it was watched.
var ErrEnded = errors.New("holdfast has ended")

// Reload asks for a handoff. With wait it comes back when that has ended, however it did: a handoff that failed is no
// error, but a Result that is not Completed.
func (c *Client) Reload(ctx context.Context, wait bool) (Result, error) {
	path := "/reload"
	if wait {
		path += "?wait=true"
	}
	var result Result
	_, body, err := c.ask(ctx, http.MethodPost, path, http.StatusOK)
	if err == nil {
		err = json.Unmarshal(body, &result)
	}
	if err != nil {
		return Result{}, fmt.Errorf("ask for a handoff: %w", err)
	}
	return result, nil
}

// Probe asks a probe endpoint, such as /readyz?exclude=handoff, and says whether it passed. Any answer that is neither
// that nor a failed check is an error.
func (c *Client) Probe(ctx context.Context, path string) (ok bool, body string, err error) {
	code, answer, err := c.ask(ctx, http.MethodGet, path, http.StatusOK, http.StatusServiceUnavailable)
	if err != nil {
		return false, "", fmt.Errorf("probe %s: %w", path, err)
	}
	return code == http.StatusOK, string(answer), nil
}

// ask takes any status code but those that are wanted for an error, whose text is the answer.
func (c *Client) ask(ctx context.Context, method, path string, wanted ...int) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://holdfast"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, plain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, err
	}
	if slices.Contains(wanted, resp.StatusCode) {
		return resp.StatusCode, body, nil
	}
	return 0, nil, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
}

// plain leaves out the URL, which means nothing to whoever reads the error, and explains a connection that just ends.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("holdfast closed the connection without an answer (too many at once, or it is ending): %w", err)
	}
	return err
}
