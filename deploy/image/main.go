// Command image makes the OCI image that a Dockerfile's last stage describes, without a Docker engine: an archive with one
// manifest for each architecture. What the earlier stages would have built is given to it ready made (-from), so the
// stages' RUN lines are not run; a base other than scratch is given as a tar file of its root (-base).
//
// The same files give the same bytes: everything in the image belongs to root, is as old as SOURCE_DATE_EPOCH says
// (seconds, 0 without it), and is written in the order of its names.
//
//	image -f Dockerfile -from build=dist/{arch} -arch amd64,arm64 -arg VERSION=v1 -t localhost/holdfast:v1 -o dist/holdfast.tar
//
// Load it with `ctr -n k8s.io images import`, `kind load image-archive`, `docker load`, `podman load`, or push it with
// `crane push` or `skopeo copy oci-archive:…`.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// options is the command line.
type options struct {
	dockerfile string            // whose last stage is made
	from       map[string]string // stage name → directory that stands for it; {arch} in it is the architecture
	context    string            // directory that a COPY without --from copies from; {arch} as above
	base       string            // tar file of the base's root; empty for FROM scratch
	args       map[string]string // values of the ARGs
	arches     []string
	tag        string // the image's name in the archive
	created    time.Time
	out        string // the archive
}

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(words []string, epoch string, out io.Writer) error {
	o, err := parse(words, epoch)
	if err != nil {
		return err
	}
	index, err := build(o)
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if err := writeArchive(o.out, o.tag, index); err != nil {
		return fmt.Errorf("write %s: %w", o.out, err)
	}
	_, err = fmt.Fprintf(out, "%s@%s\n", o.tag, digest)
	return err
}

func parse(words []string, epoch string) (options, error) {
	o := options{from: map[string]string{}, args: map[string]string{}, created: time.Unix(0, 0).UTC()}
	s := flag.NewFlagSet("image", flag.ContinueOnError)
	s.StringVar(&o.dockerfile, "f", "Dockerfile", "the `Dockerfile` whose last stage is made")
	s.Func("from", "`STAGE=DIR`: take the files of this stage from the directory; {arch} in it is the architecture; repeatable", pair(o.from))
	s.StringVar(&o.context, "context", ".", "`DIR` of what is copied without --from; {arch} in it is the architecture")
	s.StringVar(&o.base, "base", "", "`FILE`: tar of the root file system that the last stage's FROM stands for; needed unless that is scratch")
	s.Func("arg", "`NAME=VALUE` of an ARG; repeatable", pair(o.args))
	arches := s.String("arch", "amd64", "`ARCH,…`: the architectures, as Go names them")
	s.StringVar(&o.tag, "t", "", "`NAME:TAG` of the image")
	s.StringVar(&o.out, "o", "", "`FILE` to write the archive to")
	if err := s.Parse(words); err != nil {
		return o, err
	}
	o.arches = strings.Split(*arches, ",")
	if s.NArg() > 0 || o.tag == "" || o.out == "" {
		return o, fmt.Errorf("want -t NAME:TAG, -o FILE and no words behind the flags, got %q", words)
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return o, fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", epoch)
		}
		o.created = time.Unix(seconds, 0).UTC()
	}
	return o, nil
}

// pair returns a flag's function that puts NAME=VALUE into m.
func pair(m map[string]string) func(string) error {
	return func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("want NAME=VALUE")
		}
		m[name] = value
		return nil
	}
}
