// Package check holds the tests of deploy/: that every manifest is one that the API server would take (strict decoding into
// Kubernetes' own types, the admission's own checks of the restricted Pod Security Standard), that holdfast takes the
// settings in them, that the Helm chart makes what kustomize makes and refuses what is wrong, that the alert rules do what
// they say, and that everything that the dashboard and the alerts ask for is answered by a holdfast that runs.
//
// It is a module of its own, so that none of this is among holdfast's dependencies.
package check
