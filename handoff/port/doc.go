// Package port holds listening addresses that outlive the servers behind them.
//
// A Port is one address. Each generation of the server gets a socket of its own on it, and the switch decides which
// generation a new connection reaches. A handoff from generation 1 to generation 2 is
//
//	p.Open(2)                // a second socket; not one user's connection reaches it
//	… start the new server with p.FD(2) …
//	p.ProveAccept(ctx, 2)    // through a connection that only it can receive; so are those of p.Dial(ctx, 2)
//	p.Turn(2)                // the cutover: one setsockopt
//	… until !p.Pending(1): the old server accepts what was queued for it …
//	p.Relay(1)               // when it is told to stop: what it leaves in its queue is relayed to generation 2
//	… until the old server is gone …
//	p.Retire(1)
//
// and p.Turn(1) turns back as long as generation 1 has not been retired. The package knows nothing of processes.
//
// # The switch
//
// TCP and UDP sockets of one address form a SO_REUSEPORT group, and a classic BPF program attached to the group picks
// the member for each connection or datagram by its place in the group. No privilege is needed. The program is one
// return instruction, but for the probes in flight, which it knows by their source address and port. The Port follows
// how the kernel numbers the members; socket.go, group.go and program.go have the details. A unix socket's path is
// switched by rename(2); each generation has a hard link beside it.
//
// Where the kernel can't steer (it is tried whenever a socket is added), all generations share one socket; see Shared.
//
// # Limits
//
// The switch chooses for each datagram: after a cutover those of one client go to another server process than before,
// which protocols with connections of their own over UDP (QUIC) notice. A relayed connection comes from an address of
// this machine, and ancillary data (descriptors sent over a unix socket) does not pass the relay. A handshake that began
// before the cutover and completes after Retire is reset, so leave some time between the two; net.ipv4.tcp_migrate_req=1
// spares even these. Any process of the same user in the network namespace can join a SO_REUSEPORT group.
package port
