package main

import (
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// stage is what a Dockerfile's last stage says, for one architecture.
type stage struct {
	scratch bool // FROM scratch
	copies  []copied
	config  v1.Config
}

// copied is one COPY.
type copied struct {
	from    string // a stage's name; empty: the context
	sources []string
	dest    string
}

// lastStage reads it. The ARGs have the values of args, else their defaults; TARGETARCH and TARGETOS are there of themselves.
func lastStage(path, arch string, args map[string]string) (stage, error) {
	var s stage
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	last := stages[len(stages)-1]
	s.scratch = last.BaseName == "scratch"
	s.config.Labels = map[string]string{}
	known := variables{"TARGETARCH": arch, "TARGETOS": "linux"}
	lex := shell.NewLex(parsed.EscapeToken)
	expand := func(word string) (string, error) {
		text, _, err := lex.ProcessWord(word, known)
		return text, err
	}
	for _, command := range last.Commands {
		if e, ok := command.(instructions.SupportsSingleWordExpansion); ok {
			if err := e.Expand(expand); err != nil {
				return s, fmt.Errorf("%s: %s: %w", path, command, err)
			}
		}
		if err := s.add(command, known, args); err != nil {
			return s, fmt.Errorf("%s: %w", path, err)
		}
	}
	return s, nil
}

// add takes up one line. One that it does not know is an error: the image would not be the one that docker makes of it.
func (s *stage) add(command instructions.Command, known variables, args map[string]string) error {
	switch c := command.(type) {
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			if value, ok := args[a.Key]; ok {
				known[a.Key] = value
			} else if a.Value != nil {
				known[a.Key] = *a.Value
			}
		}
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			known[kv.Key] = kv.Value
			s.config.Env = append(s.config.Env, kv.Key+"="+kv.Value)
		}
	case *instructions.LabelCommand:
		for _, kv := range c.Labels {
			s.config.Labels[kv.Key] = kv.Value
		}
	case *instructions.CopyCommand:
		if c.Chmod != "" || c.Chown != "" || len(c.SourceContents) > 0 || len(c.ExcludePatterns) > 0 {
			return fmt.Errorf("%s: its options are not known here", c)
		}
		s.copies = append(s.copies, copied{from: c.From, sources: c.SourcePaths, dest: c.DestPath})
	case *instructions.UserCommand:
		s.config.User = c.User
	case *instructions.WorkdirCommand:
		s.config.WorkingDir = c.Path
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			return fmt.Errorf("%s: want a list of words", c)
		}
		s.config.Entrypoint = c.CmdLine
	case *instructions.CmdCommand:
		if c.PrependShell {
			return fmt.Errorf("%s: want a list of words", c)
		}
		s.config.Cmd = c.CmdLine
	case *instructions.RunCommand:
		if s.scratch {
			return fmt.Errorf("%s: nothing can be run in scratch", c)
		} // else -base holds what it would have done
	default:
		return fmt.Errorf("%s: not known here", c)
	}
	return nil
}

// variables are what $NAME stands for.
type variables map[string]string

// Get is for shell.Lex.
func (v variables) Get(name string) (string, bool) { value, ok := v[name]; return value, ok }

// Keys is for shell.Lex.
func (v variables) Keys() []string {
	var names []string
	for name := range v {
		names = append(names, name)
	}
	return names
}

// perArch puts the architecture into a path.
func perArch(path, arch string) string { return strings.ReplaceAll(path, "{arch}", arch) }
