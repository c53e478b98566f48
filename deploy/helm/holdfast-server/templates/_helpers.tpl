{{- define "holdfast-server.app" -}}
{{- .Values.name | default .Release.Name -}}
{{- end }}

{{- define "holdfast-server.fullname" -}}
{{- include "holdfast-server.app" . }}-server
{{- end }}

{{- /* The application's name is in the names of all objects, so that no other release in the namespace has these. */ -}}
{{- define "holdfast-server.selector" -}}
app.kubernetes.io/name: {{ include "holdfast-server.app" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "holdfast-server.labels" -}}
app.kubernetes.io/name: {{ include "holdfast-server.app" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* A reference to an image; takes repository, tag and digest. */ -}}
{{- define "holdfast-server.image" -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else if .tag }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "holdfast-server.holdfastImage" -}}
{{- include "holdfast-server.image" (merge (dict "tag" (.Values.holdfast.image.tag | default .Chart.AppVersion)) .Values.holdfast.image) }}
{{- end }}

{{- define "holdfast-server.path" -}}
{{- if eq .Values.holdfast.install "image-volume" }}/opt/holdfast/holdfast{{ else }}{{ .Values.holdfast.path }}{{ end }}
{{- end }}

{{- /* The name of the ConfigMap that is mounted, or nothing. */ -}}
{{- define "holdfast-server.config" -}}
{{- if .Values.config.existingConfigMap }}{{ .Values.config.existingConfigMap }}
{{- else if .Values.config.data }}{{ include "holdfast-server.fullname" . }}-config
{{- end }}
{{- end }}

{{- /* Every flag of holdfast has a variable, with one value a line where the flag is repeatable. A bare "off" is false to
YAML, and there are flags with that word. */ -}}
{{- define "holdfast-server.flags" -}}
{{- $flags := deepCopy .Values.holdfast.flags }}
{{- if and (include "holdfast-server.config" .) (not (hasKey $flags "watch")) }}
{{- $_ := set $flags "watch" .Values.config.mountPath }}
{{- end }}
{{- if .Values.holdfast.reloadByAnnotation }}
{{- $others := get $flags "watch-trigger" }}
{{- $_ := set $flags "watch-trigger" (concat (list "/etc/holdfast/reload") (kindIs "string" $others | ternary (compact (list $others)) $others)) }}
{{- end }}
{{- if ne (int .Values.probes.port) 9902 }}
{{- $_ := set $flags "probe-addr" (printf ":%d" (int .Values.probes.port)) }}
{{- end }}
{{- range $name, $value := $flags }}
{{- if and (has $name (list "takeover" "memory-headroom")) (eq (toString $value) "false") }}
{{- $value = "off" }}
{{- else if kindIs "float64" $value }}
{{- $value = int64 $value }}
{{- else if kindIs "slice" $value }}
{{- $value = join "\n" $value }}
{{- end }}
{{- if not (kindIs "invalid" $value) }}
- name: HOLDFAST_{{ $name | upper | replace "-" "_" }}
  value: {{ toString $value | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A duration as Go writes it, in seconds, rounded up. Only Helm's functions for dates can read one. */ -}}
{{- define "holdfast-server.seconds" -}}
{{- $zero := toDate "2006-01-02" "2000-01-01" -}}
{{- sub ($zero | mustDateModify . | mustDateModify "999999999ns" | unixEpoch) ($zero | unixEpoch) -}}
{{- end }}

{{- /* What the end of a pod takes: it goes on serving, and then drains. */ -}}
{{- define "holdfast-server.ending" -}}
{{- $flags := .Values.holdfast.flags -}}
{{- add (include "holdfast-server.seconds" (get $flags "shutdown-delay" | default "0s")) (include "holdfast-server.seconds" (get $flags "drain-timeout" | default "30s")) -}}
{{- end }}

{{- define "holdfast-server.gracePeriod" -}}
{{- with .Values.terminationGracePeriodSeconds }}{{ int . }}{{ else }}{{ add 5 (include "holdfast-server.ending" .) }}{{ end }}
{{- end }}

{{- /* What the schema cannot say, or not in a line that one understands. */ -}}
{{- define "holdfast-server.refuse" -}}
{{- $v := .Values }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,54}[a-z0-9])?$" (include "holdfast-server.app" .)) }}
{{- fail (printf "name: %q cannot begin the name of a Service: a letter, then at most 55 letters, digits and dashes" (include "holdfast-server.app" .)) }}
{{- end }}
{{- if not $v.command }}
{{- fail "command: say the server's command line, such as [nginx, -g, \"daemon off;\"]" }}
{{- end }}
{{- if not $v.image.repository }}
{{- fail "image.repository: say the server's image" }}
{{- end }}
{{- if and (ne $v.holdfast.install "image") (not $v.holdfast.image.repository) }}
{{- fail (printf "holdfast.image.repository: holdfast.install=%s needs holdfast's own image" $v.holdfast.install) }}
{{- end }}
{{- if and (eq $v.holdfast.install "image-volume") (semverCompare "<1.35-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "holdfast.install: image-volume needs Kubernetes 1.35, this is %s (helm template: --kube-version); take init-container" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and $v.config.data $v.config.existingConfigMap }}
{{- fail "config: data and existingConfigMap exclude each other" }}
{{- end }}
{{- if and (not $v.ports) (not (get $v.holdfast.flags "ready")) }}
{{- fail "ports: a server without any is never ready unless holdfast.flags.ready says how it proves itself" }}
{{- end }}
{{- range $v.ports }}
{{- if or (eq .name "probes") (eq (int .containerPort) (int $v.probes.port)) }}
{{- fail (printf "ports: %s (%d) is the probe port's, probes.port" .name (int .containerPort)) }}
{{- end }}
{{- end }}
{{- range $name, $_ := $v.podAnnotations }}
{{- if contains "checksum" $name }}
{{- fail (printf "podAnnotations: %s makes every edit of the configuration a rollout, and never a handoff" $name) }}
{{- end }}
{{- end }}
{{- with $v.terminationGracePeriodSeconds }}
{{- if lt (int .) (include "holdfast-server.ending" $ | int) }}
{{- fail (printf "terminationGracePeriodSeconds: %d is less than shutdown-delay and drain-timeout together, %s s" (int .) (include "holdfast-server.ending" $)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Takes a list of the root and a file's name. What is read is a symbolic link to what kustomize and promtool read. */ -}}
{{- define "holdfast-server.file" -}}
{{- $text := (index . 0).Files.Get (index . 1) -}}
{{- if not $text }}{{ fail (printf "%s: not in the chart: it is a symbolic link into deploy/overlays/monitoring, and helm package puts the file in its place" (index . 1)) }}{{ end -}}
{{- $text -}}
{{- end }}
