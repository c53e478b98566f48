package port

import "errors"

var (
	errNoSocket   = errors.New("it has no socket on this port")
	errHasSocket  = errors.New("it has a socket on this port")
	errShutDown   = errors.New("its socket has been shut down")
	errLive       = errors.New("it is live")
	errLast       = errors.New("it is the only one")
	errShared     = errors.New("others have it too")
	errClosed     = errors.New("the port is closed")
	errNotSteered = errors.New("steered connections do not arrive where they should")
	errUnmarked   = errors.New("it cannot be told whether the datagram has been delivered")
	errNotSocket  = errors.New("exists and is not a socket")
)
