package trigger

import "github.com/fsnotify/fsnotify"

// Source is where a test puts its own events.
type Source struct {
	Add    func(string) error
	Events chan fsnotify.Event
	Errors chan error
	Closed func()
}

// OpenWith replaces the way to inotify.
func (w *Watcher) OpenWith(open func() (*Source, error)) {
	w.open = func() (*source, error) {
		s, err := open()
		if err != nil {
			return nil, err
		}
		return &source{
			add:    s.Add,
			remove: func(string) error { return nil },
			close: func() error {
				if s.Closed != nil {
					s.Closed()
				}
				return nil
			},
			events: s.Events,
			errors: s.Errors,
		}, nil
	}
}

// GateOpen calls gate before each try to get inotify, and fails the try with what it gives.
func (w *Watcher) GateOpen(gate func() error) {
	w.open = func() (*source, error) {
		if err := gate(); err != nil {
			return nil, err
		}
		return openSource()
	}
}
