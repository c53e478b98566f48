package trigger

import (
	"log/slog"
	"slices"
	"sync"
)

// conditions are the warnings that last, by what they come from. Each is logged once when it begins and once when it is
// over: a poll every two seconds must not write a line every two seconds.
type conditions struct {
	log *slog.Logger

	mu    sync.Mutex
	texts map[string][]string
}

// set replaces the conditions that come from one origin.
func (c *conditions) set(origin string, texts []string) {
	slices.Sort(texts)
	c.mu.Lock()
	old := c.texts[origin]
	if c.texts == nil {
		c.texts = map[string][]string{}
	}
	c.texts[origin] = texts
	c.mu.Unlock()

	for _, text := range texts {
		if !slices.Contains(old, text) {
			c.log.Warn("watch: " + text)
		}
	}
	for _, text := range old {
		if !slices.Contains(texts, text) {
			c.log.Info("watch: no longer: " + text)
		}
	}
}

func (c *conditions) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, texts := range c.texts {
		all = append(all, texts...)
	}
	slices.Sort(all)
	return all
}
