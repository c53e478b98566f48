package harness

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

//go:embed testdata/docker-seccomp/default.json
var dockerProfile []byte

// Seccomp is a profile as the OCI runtime specification has it (linux.seccomp).
type Seccomp struct {
	DefaultAction   string           `json:"defaultAction"`
	DefaultErrnoRet uint             `json:"defaultErrnoRet,omitempty"`
	Architectures   []string         `json:"architectures"`
	Syscalls        []SeccompSyscall `json:"syscalls"`
}

// SeccompSyscall says what happens to the calls of these names whose arguments are such.
type SeccompSyscall struct {
	Names    []string     `json:"names"`
	Action   string       `json:"action"`
	ErrnoRet uint         `json:"errnoRet,omitempty"`
	Args     []SeccompArg `json:"args,omitempty"`
}

// SeccompArg compares an argument. With SCMP_CMP_MASKED_EQ Value is the mask.
type SeccompArg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo,omitempty"`
	Op       string `json:"op"`
}

// dockerRule is a SeccompSyscall with Docker's conditions. Its minKernel is below every kernel that holdfast runs on.
type dockerRule struct {
	SeccompSyscall
	Includes, Excludes condition
}

type condition struct{ Arches, Caps []string }

// DockerSeccomp is Docker's default profile as Docker resolves it for a container with these capabilities ("CAP_CHOWN"):
// seccomp is allowed and stacks, pidfd_getfd is not without CAP_SYS_PTRACE.
func DockerSeccomp(t testing.TB, capabilities ...string) *Seccomp {
	t.Helper()
	var profile struct {
		Seccomp
		ArchMap []struct {
			Architecture     string
			SubArchitectures []string
		}
		Syscalls []dockerRule
	}
	if err := json.Unmarshal(dockerProfile, &profile); err != nil {
		t.Fatal(fmt.Errorf("read Docker's seccomp profile: %w", err))
	}
	native := map[string]string{"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[runtime.GOARCH]
	for _, a := range profile.ArchMap {
		if a.Architecture == native {
			profile.Architectures = append([]string{native}, a.SubArchitectures...)
		}
	}
	for _, rule := range profile.Syscalls {
		if rule.applies(capabilities) {
			profile.Seccomp.Syscalls = append(profile.Seccomp.Syscalls, rule.SeccompSyscall)
		}
	}
	return &profile.Seccomp
}

// applies is setupSeccomp of the profile's own package: all of the included capabilities, any of the included
// architectures, none of what is excluded.
func (r dockerRule) applies(capabilities []string) bool {
	has := func(c string) bool { return slices.Contains(capabilities, c) }
	lacks := func(c string) bool { return !has(c) }
	in := r.Includes
	return (len(in.Arches) == 0 || slices.Contains(in.Arches, runtime.GOARCH)) && !slices.ContainsFunc(in.Caps, lacks) &&
		!slices.Contains(r.Excludes.Arches, runtime.GOARCH) && !slices.ContainsFunc(r.Excludes.Caps, has)
}

// Without takes the calls of that name out of every rule, so that they get the profile's default action, or that of
// rules that are added instead.
func (s *Seccomp) Without(name string) *Seccomp {
	for i := range s.Syscalls {
		s.Syscalls[i].Names = slices.DeleteFunc(slices.Clone(s.Syscalls[i].Names), func(n string) bool { return n == name })
	}
	s.Syscalls = slices.DeleteFunc(s.Syscalls, func(r SeccompSyscall) bool { return len(r.Names) == 0 })
	return s
}

// Refusing has setsockopt(2) of that level and name fail with errno, as a kernel does that does not have the option.
func (s *Seccomp) Refusing(level, option int, errno syscall.Errno) *Seccomp {
	const call = "setsockopt"
	is := func(index uint, value int) SeccompArg {
		return SeccompArg{Index: index, Value: uint64(value), Op: "SCMP_CMP_EQ"}
	}
	isNot := func(index uint, value int) SeccompArg {
		return SeccompArg{Index: index, Value: uint64(value), Op: "SCMP_CMP_NE"}
	}
	allow := func(args ...SeccompArg) SeccompSyscall {
		return SeccompSyscall{Names: []string{call}, Action: "SCMP_ACT_ALLOW", Args: args}
	}
	s = s.Without(call)
	s.Syscalls = append(s.Syscalls, allow(isNot(1, level)), allow(is(1, level), isNot(2, option)),
		SeccompSyscall{Names: []string{call}, Action: "SCMP_ACT_ERRNO", ErrnoRet: uint(errno), Args: []SeccompArg{is(1, level), is(2, option)}})
	return s
}
