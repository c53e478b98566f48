package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

func TestParseConnection(t *testing.T) {
	ports := map[uint64]bool{0x1F90: true}
	const rest = " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1"
	for name, c := range map[string]struct {
		line  string
		inode string
	}{
		"established":       {"   0: 0100007F:1F90 0100007F:C001 01" + rest, "4711"},
		"IPv6":              {"   0: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:C001 01" + rest, "4711"},
		"half closed":       {"   0: 0100007F:1F90 0100007F:C001 08" + rest, "4711"},
		"another port":      {"   0: 0100007F:1F91 0100007F:C001 01" + rest, ""},
		"the other's port":  {"   0: 0100007F:C001 0100007F:1F90 01" + rest, ""},
		"listening":         {"   0: 0100007F:1F90 00000000:0000 0A" + rest, ""},
		"time-wait":         {"   0: 0100007F:1F90 0100007F:C001 06" + rest, ""},
		"the head":          {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", ""},
		"cut":               {"   0: 0100007F:1F90 0100007F:C001 01 00000000:00000000", ""},
		"no port":           {"   0: 0100007F 0100007F:C001 01" + rest, ""},
		"port of 17 bits":   {"   0: 0100007F:11F90 0100007F:C001 01" + rest, ""},
		"port is no number": {"   0: 0100007F:XXXX 0100007F:C001 01" + rest, ""},
		"empty":             {"", ""},
	} {
		if inode, ok := parseConnection(c.line, ports); ok != (c.inode != "") || ok && inode != c.inode {
			t.Errorf("%s: %q, %v, want %q", name, inode, ok, c.inode)
		}
	}
}

func refused(map[uint64]bool) ([]uint64, error) { return nil, unix.EPROTONOSUPPORT }
func short(map[uint64]bool) ([]uint64, error)   { return nil, unix.EMFILE }

// TestConnections counts real ones, of this process: the accepted ones, not the clients' ends.
func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ports := map[uint64]bool{uint64(l.Addr().(*net.TCPAddr).Port): true}
	self := []reaper.Process{{PID: os.Getpid()}}
	for want := range 3 {
		if got, err := connections(ports, self); err != nil || got != want {
			t.Errorf("%d connections, %v, want %d", got, err, want)
		}
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if read, err := connected(ports, refused); err != nil || len(read) != want+1 {
			t.Errorf("where the kernel may not be asked: %d connections, %v, want %d", len(read), err, want+1)
		}
	}
	if _, err := connected(ports, short); !errors.Is(err, unix.EMFILE) {
		t.Errorf("for want of descriptors: %v", err)
	}
	if got, err := connections(ports, nil); err != nil || got != 0 {
		t.Errorf("of nobody: %d, %v", got, err)
	}
	if got, err := connections(map[uint64]bool{}, self); err != nil || got != 0 {
		t.Errorf("on no port: %d, %v", got, err)
	}
}

// TestNotPermitted: root without CAP_SYS_PTRACE, as in a container with docker's capabilities, may list the descriptors of
// a server that has changed its uid, and not see what they are. It can with the server's own ids, if it may take those on;
// else the server has to be taken for one that has the port, which would else be let go.
func TestNotPermitted(t *testing.T) {
	const variable = "HANDOFF_TEST_NOT_PERMITTED" // in a process that has lost capabilities: which, the server's pid, its socket
	if os.Getuid() != 0 {
		t.Skip("only root has another uid's process")
	}
	if text, isHelper := os.LookupEnv(variable); isHelper {
		var lost string
		var pid int
		var inode uint64
		if _, err := fmt.Sscan(text, &lost, &pid, &inode); err != nil {
			t.Fatal(err)
		}
		lookAt(t, lost, pid, inode)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("sleep", "100")
	server.ExtraFiles = []*os.File{file}
	server.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	for _, lost := range []string{"-net_raw", "-sys_ptrace", "-sys_ptrace,-setuid,-setgid"} {
		cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set="+lost, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", variable, lost, server.Process.Pid, stat.Ino))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("with the capabilities %s: %v\n%s", lost, err, out)
		}
	}
}

func lookAt(t *testing.T, lost string, pid int, inode uint64) {
	other, its := map[string]bool{"1": true}, inodeSet([]uint64{inode})
	if _, err := findOpen(pid, other, false); os.IsPermission(err) != strings.Contains(lost, "sys_ptrace") {
		t.Errorf("with its own ids: %v", err)
	}
	n, err := countOpen(pid, other)
	if strings.Contains(lost, "setuid") {
		if !errors.Is(err, os.ErrPermission) || !hasOpen(pid, other) {
			t.Errorf("countOpen = %d, %v, want that it is not permitted; has it: %v", n, err, hasOpen(pid, other))
		}
	} else if n != 0 || err != nil || hasOpen(pid, other) {
		t.Errorf("of a socket that it has not: %d, %v, has it: %v", n, err, hasOpen(pid, other))
	} else if n, err := countOpen(pid, its); n != 1 || err != nil || !hasOpen(pid, its) {
		t.Errorf("of its socket: %d, %v, has it: %v", n, err, hasOpen(pid, its))
	}
	if n, err := countOpen(1<<30, other); n != 0 || err != nil || hasOpen(1<<30, other) {
		t.Errorf("a process that is gone: %d, %v, has it: %v", n, err, hasOpen(1<<30, other))
	}
}

func TestEstablished(t *testing.T) {
	table := filepath.Join(t.TempDir(), "tcp")
	const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:0050 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1
   2: 0100007F:0050 0100007F:C002 01 00000000:00000000 02:00000000 00000000     0        0 13 2 0 20 4 30 10 -1
`
	if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	if err := established(table, map[uint64]bool{80: true}, inodes); err != nil || len(inodes) != 2 || !inodes["12"] || !inodes["13"] {
		t.Errorf("got %v, %v", inodes, err)
	}
	if err := established(table+"6", nil, inodes); !os.IsNotExist(err) {
		t.Errorf("no table: %v", err)
	}
}
