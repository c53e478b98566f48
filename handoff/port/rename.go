package port

import "fmt"

// Path is where clients find the socket of a unix port: the one of its Spec, until Move.
func (p *Port) Path() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path
}

// Move says that the live generation's program renames the port's path to another, where clients find it from now on: some
// servers bind a name that nobody knows, and publish the socket when it listens. The switch turns there.
func (p *Port) Move(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.path = to
	for _, s := range p.sockets() {
		if s.file != nil {
			s.file.path = to
		}
	}
}

// Take gives p the unix socket that generation gen has opened on a port of its own, from, whose path its program renames to
// p's. Its clients go on to reach the live generation, and from is left without it.
func (p *Port) Take(from *Port, gen int) error {
	s, err := from.surrender(gen)
	if err != nil {
		return fmt.Errorf("take %s of generation %d for %s: %w", from.spec, gen, p.spec, err)
	}
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	s.id, s.file.path = p.lastID, p.path
	p.gens[gen] = append(p.gens[gen], s)
	p.rewatch()
	return nil
}

// surrender takes the one socket off a port on which nobody else has any, with its path.
func (p *Port) surrender(gen int) (*socket, error) {
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.first(gen)
	switch {
	case s == nil || s.file == nil:
		return nil, errNoSocket
	case len(p.gens) > 1 || s.users > 1 || s.busy || s.file.name == "":
		return nil, errShared
	}
	p.unwatch(s)
	p.ignoreArrivals(s)
	delete(p.gens, gen)
	p.live = 0
	s.file.unpublish()
	return s, nil
}
