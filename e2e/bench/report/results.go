// Package report makes the document of a run's figures.
package report

import (
	"time"

	"holdfast/e2e/bench/bad"
	"holdfast/e2e/bench/datapath"
	"holdfast/e2e/bench/handoffs"
	"holdfast/e2e/bench/inits"
	"holdfast/e2e/bench/phases"
)

// Results are all figures of a run, as they are in docs/benchmarks.json.
type Results struct {
	At       time.Time         `json:"at"`
	Took     float64           `json:"took_s"`
	Size     string            `json:"size"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"` // of the peers, by their names
	Handoffs []handoffs.Cell   `json:"handoffs"`
	Bad      []bad.Result      `json:"bad"`
	Inits    []inits.Result    `json:"inits"`
	Phases   phases.Result     `json:"phases"`
	Data     []datapath.Result `json:"data"`
	Trouble  []string          `json:"trouble,omitempty"` // what could not be measured, and why
}

// Machine is what it was measured on.
type Machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Memory     string `json:"memory"`
	Kernel     string `json:"kernel"`
	System     string `json:"system"`
	Go         string `json:"go"`
}
