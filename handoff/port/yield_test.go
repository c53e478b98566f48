package port

import (
	"fmt"
	"testing"
)

// pairs are addresses of which the second covers the first, and where a client of both connects to.
func pairs(t *testing.T) map[string][3]string {
	number := freePort(t)
	all := map[string][3]string{
		"loopback to all": {fmt.Sprintf("127.0.0.1:%d", number), fmt.Sprintf("0.0.0.0:%d", number), fmt.Sprintf("127.0.0.1:%d", number)},
	}
	if hasIPv6() {
		number = freePort(t)
		all["IPv4 to both"] = [3]string{fmt.Sprintf("0.0.0.0:%d", number), fmt.Sprintf(":%d", number), fmt.Sprintf("127.0.0.1:%d", number)}
		number = freePort(t)
		all["IPv6 to both"] = [3]string{fmt.Sprintf("[::1]:%d", number), fmt.Sprintf(":%d", number), fmt.Sprintf("[::1]:%d", number)}
	}
	return all
}

// TestYield: the new generation listens on an address that covers the old one's. It is proven apart from it, gets what
// comes after the cutover, and what the old one has left.
func TestYield(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			old, heir, client := overlapping(t, pair)
			must(t, old.Open(1))
			must(t, heir.Open(2))
			// The old one does not accept: a proof that reached it would wait in vain.
			newer := serve(t, heir, 2)
			must(t, heir.ProveAccept(testContext(t), 2))
			if old.Pending(1) {
				t.Error("the proof reached the old generation")
			}
			queued := connect(t, old)
			eventually(t, "it to be queued", func() bool { return old.Pending(1) })
			must(t, old.Yield(1, heir))
			if got, err := ask("tcp", client); err != nil || got != 2 {
				t.Errorf("after the cutover generation %d answered, %v", got, err)
			}
			if !old.Pending(1) {
				t.Error("what was queued is gone")
			}
			must(t, old.Relay(1))
			if got, err := answerer(queued); err != nil || got != 2 {
				t.Errorf("what was queued was answered by %d, %v", got, err)
			}
			n, err := old.Retire(1)
			if n != 1 || err != nil {
				t.Errorf("%d relayed, %v", n, err)
			}
			must(t, old.Finish())
			if got, err := ask("tcp", client); err != nil || got != 2 {
				t.Errorf("after the end generation %d answered, %v", got, err)
			}
			newer.stop()
		})
	}
}

// TestYieldWithoutHiding: where the kernel does not hide sockets, what comes later is relayed as well.
func TestYieldWithoutHiding(t *testing.T) {
	number := freePort(t)
	client := fmt.Sprintf("127.0.0.1:%d", number)
	old, heir, _ := overlapping(t, [3]string{client, fmt.Sprintf("0.0.0.0:%d", number), client})
	must(t, old.Open(1))
	must(t, heir.Open(2))
	serve(t, heir, 2)
	at, reached := heir.apart()
	if !reached || at.Addr().String() == "127.0.0.1" {
		t.Fatalf("the heir alone is reached at %v, %t", at, reached)
	}
	old.mu.Lock()
	old.heir = &inheritance{heir.spec, at} // as Yield leaves it there
	old.mu.Unlock()
	must(t, old.Relay(1))
	for range 3 {
		if got, err := ask("tcp", client); err != nil || got != 2 {
			t.Errorf("relayed to generation %d, %v", got, err)
		}
	}
	_, err := old.Retire(1)
	must(t, err)
}

// TestYieldUDP: datagrams go on reaching the old generation until it is stopped, and are relayed then.
func TestYieldUDP(t *testing.T) {
	number := freePort(t)
	client := fmt.Sprintf("127.0.0.1:%d", number)
	old, heir, _ := overlapping(t, [3]string{"udp://" + client, fmt.Sprintf("udp://0.0.0.0:%d", number), client})
	must(t, old.Open(1))
	first := serve(t, old, 1)
	must(t, heir.Open(2))
	serve(t, heir, 2)
	must(t, old.Yield(1, heir))
	if got, err := ask("udp", client); err != nil || got != 1 {
		t.Errorf("generation %d answered, %v", got, err)
	}
	first.stop()
	must(t, old.Relay(1))
	if got, err := ask("udp", client); err != nil || got != 2 {
		t.Errorf("generation %d answered what was relayed, %v", got, err)
	}
	_, err := old.Retire(1)
	must(t, err)
	if got, err := ask("udp", client); err != nil || got != 2 {
		t.Errorf("after the end generation %d answered, %v", got, err)
	}
}

// TestYieldTakenBack: a third generation is on the first one's address again, while the first still drains.
func TestYieldTakenBack(t *testing.T) {
	number := freePort(t)
	client := fmt.Sprintf("127.0.0.1:%d", number)
	old, heir, _ := overlapping(t, [3]string{client, fmt.Sprintf("0.0.0.0:%d", number), client})
	must(t, old.Open(1))
	must(t, heir.Open(2))
	serve(t, heir, 2)
	must(t, old.Yield(1, heir))
	must(t, old.Relay(1))
	must(t, old.Open(3))
	serve(t, old, 3)
	must(t, old.ProveAccept(testContext(t), 3))
	must(t, old.Turn(3))
	if _, yielded := old.Yielded(); yielded {
		t.Error("it is still given up")
	}
	if got, err := ask("tcp", client); err != nil || got != 3 {
		t.Errorf("generation %d answered, %v", got, err)
	}
	_, err := old.Retire(1)
	must(t, err)
	if got, err := ask("tcp", client); err != nil || got != 3 {
		t.Errorf("after the end of the first generation %d answered, %v", got, err)
	}
}

func overlapping(t *testing.T, pair [3]string) (old, heir *Port, client string) {
	t.Helper()
	old, _ = newPort(t, pair[0])
	heir, _ = newPort(t, pair[1])
	heir.AllowOverlap()
	old.SetOverlaps([]Spec{heir.Spec()})
	heir.SetOverlaps([]Spec{old.Spec()})
	return old, heir, pair[2]
}
