package main

import (
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// build makes the index of all architectures' images.
func build(o options) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range o.arches {
		image, err := buildOne(o, arch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index, nil
}

func buildOne(o options, arch string) (v1.Image, error) {
	s, err := lastStage(o.dockerfile, arch, o.args)
	if err != nil {
		return nil, err
	}
	if s.scratch != (o.base == "") {
		return nil, fmt.Errorf("%s: FROM scratch has no -base, every other FROM needs one", o.dockerfile)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if o.base != "" {
		layer, err := tarball.LayerFromFile(perArch(o.base, arch), tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, fmt.Errorf("read base: %w", err)
		}
		if image, err = add(image, layer, "base", o.created); err != nil {
			return nil, err
		}
	}
	for _, c := range s.copies {
		layer, err := copyLayer(o, arch, c)
		if err != nil {
			return nil, err
		}
		if image, err = add(image, layer, fmt.Sprintf("COPY %v %s", c.sources, c.dest), o.created); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: o.created}
	config.Config = s.config
	return mutate.ConfigFile(image, config)
}

func add(image v1.Image, layer v1.Layer, by string, created time.Time) (v1.Image, error) {
	return mutate.Append(image, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{CreatedBy: by, Created: v1.Time{Time: created}},
	})
}
